"""The server of `vserver start`: the REST API and the web sockets of vantage6 4.15, over a database of ours.

A request goes through these modules:

    starting      binds the port and runs until Ctrl-C
    connections   ends those that never send a whole request
    application   the ASGI program: it checks host, size and content type, and finds the route
    sockets       socket.io, around the application: attach(app, server) -> app
    routes        the table of all calls: method, path, callers, right, function
    requests      Request: who calls, with which query and body
    desk          the one thread that has the database
    hashing_room  two threads that compute bcrypt
    tokens        JSON web tokens, and the secret that signs them
    permissions   the default roles and their rules, and who may see and change which rows
    answers       the shapes of the answers

and the modules by entity (organizations, users, tasks, ...), whose functions the routes name.

A function of a route is plain: it takes a Request and returns an Answer. The desk runs it in one transaction, which it
rolls back on any error. If another program holds the lock, the desk runs it again later: so it must change nothing but
the database and its Request. Functions with `steps` are coroutines that take (Request, Server): they await the hashing
room between calls of `server.desk`.

Events leave after the commit. A function of a route calls `request.emit(name, data, room)`. The desk gives these Events
after the commit to `server.desk.publish`, in the event loop; sockets sets it. Until then events are dropped.

`server.nodes` (presence.NodeBook) is kept in memory: which nodes and users are connected, and the configuration that
each node reports. sockets writes it, through `await server.desk.write(...)` where the database is concerned.

Nothing below knows this package. `vserver start` imports it, and what posts tasks to it.
"""

NO_LIBRARIES = (
    "the server needs libraries that are not installed; install starlette, uvicorn, python-socketio, PyJWT, jinja2"
)
MAX_BODY = 64 * 1024 * 1024  # bytes of a task or result
