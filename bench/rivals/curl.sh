#!/bin/sh
# What a user would write in a minute. INBOX OUTBOX CONCURRENCY BASE_URL KEY
inotifywait -m -q -e close_write -e moved_to --format %f "$1" |
  xargs -P "$3" -I{} curl -sS -o "$2/{}" -H "Authorization: Bearer $5" \
    -F "image=@$1/{}" -F scale=2 "$4/image/upscale"
