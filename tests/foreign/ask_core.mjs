// Make one call with @venice-dev-tools/core and print what comes of it, as JSON.
//
// Rules: the package is looked for in the folder given first. The other arguments: base URL, key,
// the call as `imageUpscale.upscale`, its arguments as a JSON object; `image` is a path.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, baseUrl, apiKey, call, text] = process.argv.slice(2);
const { LogLevel, VeniceAI, VeniceError } = createRequire(`${folder}/`)("@venice-dev-tools/core");

async function ask() {
  const given = JSON.parse(text);
  if (given.image) given.image = readFileSync(given.image).toString("base64");
  const client = new VeniceAI({ apiKey, baseUrl, logLevel: LogLevel.NONE });
  const [room, verb] = call.split(".");
  const answer = await client[room][verb](given);
  if (!(answer instanceof Blob)) return answer;
  return Buffer.from(await answer.arrayBuffer()).toString("hex");
}

let said;
try {
  said = { answer: await ask() };
} catch (error) {
  if (!(error instanceof VeniceError)) throw error;
  const { name, message, status, details, retryAfter } = error;
  said = { error: name, message, status, details, retryAfter };
}
process.stdout.write(JSON.stringify(said), () => process.exit());
