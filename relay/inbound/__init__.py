"""Inbound: the faces that clients meet, all writing through one Sink. Knows servers; decides nothing about a request.

protocol  uvicorn's own HTTP protocol, subclassed: relayed requests are served without entering ASGI (the fast face)
asgi      the same over plain ASGI, for any other server, for test clients, and for mounting in somebody's app
text      POST /chat/stream: a chat's words alone
"""
