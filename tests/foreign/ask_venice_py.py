"""Make one call with venice-py and print what comes of it, as JSON.

Rules: run by the interpreter that has venice-py, which has nothing of ours. Arguments: base URL,
key, the call as `image.upscale`, its arguments as a JSON object; `image` is a path.
"""

import asyncio
import json
import sys

from venice_ai import VeniceClient
from venice_ai.exceptions import VeniceError

PLAIN = (str, int, float, bool)


async def ask(base_url: str, key: str, call: str, arguments: dict[str, object]) -> object:
    """Return the answer, an image as the digits of its bytes."""
    async with VeniceClient(api_key=key, base_url=base_url, max_retries=0) as client:
        room, _, verb = call.partition(".")
        answer = await getattr(getattr(client, room), verb)(**arguments)
    return answer.hex() if isinstance(answer, bytes) else answer.model_dump(mode="json")


def main() -> None:
    """Print {"answer": ...} or {"error": the class, and the plain things it carries}."""
    base_url, key, call, arguments = sys.argv[1:]
    try:
        said = {"answer": asyncio.run(ask(base_url, key, call, json.loads(arguments)))}
    except VeniceError as exc:
        carried = {name: value for name, value in vars(exc).items() if isinstance(value, PLAIN)}
        said = {"error": type(exc).__name__, **carried}
    sys.stdout.write(json.dumps(said))


main()
