"""The HTTP service: detection for programs, live streams for people, a page to watch them.

    clients -> guard.py (who may ask, and how much) -> detect.py -> batching.py -> the network
            -> streams.py <- stream/pipeline.py <- cameras

- `limits.py`, `urls.py`: what is refused, and why.
- `access.py`, `guard.py`: token, sessions; checks that every request passes.
- `schemas.py`, `replies.py`: the API's JSON, its errors, the answers that never end.
- `batching.py`: pictures of many requests in one call of the network.
- `channel.py`: the newest frame of a stream, its statistics, and who waits for it.
- `streams.py`: streams that run, added and removed by requests; an output of the pipeline.
- `live.py`: one WebSocket that carries all cameras of a page.
- `detect.py`, `manage.py`, `watch.py`, `pages.py`: the routes.
- `app.py`: puts them together; `server.py`: runs it by uvicorn.

fastapi, uvicorn and python-multipart come with `pip install "vision-heads[serve]"`.
"""
