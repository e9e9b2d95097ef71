"""Small videos for tests, and when their frames are shown."""

from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, RATE, MS = 32, 24, 16000, Fraction(1, 1000)
TIMES = (0, 40, 47, 130, 131, 400)  # ms; the last frame stands for LAST
LAST = 333


def make(path, times=TIMES, last=LAST, codec="libx264", clock=MS, options=None, titles=None,
         beside=(), sound=True, form=None, options_of_file=None,
         **opened):
    """A video; ``beside`` are functions that add a stream and return what is to be muxed last."""
    with av.open(str(path), "w", format=form, options=options_of_file, **opened) as out:
        out.metadata.update(titles or {})
        stream = out.add_stream(codec, rate=25, options=options or {"bf": "0"})
        context = stream.codec_context
        context.width, context.height, context.time_base = WIDTH, HEIGHT, clock
        context.flags |= av.codec.context.Flags.frame_duration
        stream.metadata.update(title="Bild", language="fra")
        stream.disposition = av.stream.Disposition.default | av.stream.Disposition.original
        tone = out.add_stream("aac", rate=RATE, layout="mono") if sound else None
        if sound:
            tone.metadata.update(language="deu", title="Ton")
        late = [add(out) for add in beside]
        for i, time in enumerate(times):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([60 + 20 * i]) * plane.buffer_size)
            after = times[i + 1] if i + 1 < len(times) else time + last
            frame.pts, frame.duration, frame.time_base = time, after - time, clock
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        for k in range(4 * sound):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1024), 99, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 1024 * k, Fraction(1, RATE)
            out.mux(tone.encode(frame))
        if sound:
            out.mux(tone.encode(None))
        for packet in filter(None, late):
            out.mux(packet)


def times(path):
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition
                      & av.stream.Disposition.attached_pic)
        found = [(f.pts * f.time_base, f.duration * f.time_base) for f in container.decode(stream)]
    return [float(t) for t, _ in found], float(found[-1][1])
