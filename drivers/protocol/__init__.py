"""The wire protocol: PROTOCOL.md, its messages, its client, and the links that carry it."""
