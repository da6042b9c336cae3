"""Video and live streams: from sources to sinks, through the network.

    source -> reader thread (decodes) -> lane -> runner threads (network, several cameras a call)
           -> the lane's output thread (hooks: tracking, analytics; then sinks)

- `media/frames.py`: `Frame`, `End`, `FrameSource`: what sources give.
- `seen.py`: `Seen` (a frame and what was found in it) and `Event`: what goes to hooks and sinks.
- `hooks.py`: `Hook`: what looks at each frame of one source in order, e.g. a tracker.
- `outputs.py`: `Output`: what takes everything that was seen, e.g. a file.
- `analytics.py`: the hooks there are: tracks (`tracking.py`), smooth poses (`smoothing.py`), counts
  at lines and in zones (`counting.py`, by `shapes.py`, `crossing.py` and `dwelling.py`).
- `pipeline.py`: `Pipeline`: runs any number of sources; they can be added and removed meanwhile.

Files lose no frame and keep their order. Of a live source only the newest frame waits, so that
delay never grows; when it is lost, it is opened again and again, see `reader.py`.
"""
