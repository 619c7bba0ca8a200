"""Configuration: YAML text to a frozen, validated `Config`, and every mistake of it at once.

`load` reads a file, `model` says what comes out, `folder_file` reads the small file that may lie in
an inbox, `schema` describes the format to editors.
"""
