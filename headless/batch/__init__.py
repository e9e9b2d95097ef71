"""One workflow over many pictures and videos: ``undegrade batch``.

============  ========================================================================
``command``   the command line, what is refused before anything runs, the exit status
``inputs``    patterns and folders -> the files, with the names their outputs keep
``plan``      what of a workflow changes from picture to picture: names, seeds, outputs
``worker``    computes pictures; what does not depend on them is computed once
``memory``    where a worker's pictures are read and saved: nowhere but in memory
``lockstep``  several pictures at a time, sharing each network call
``footprint`` how much memory a network call takes
``engines``   who calls the workers: a loop here, or Ray
``driver``    feeds the engine, writes what comes back, draws the bar
``lock``      a folder belongs to one batch at a time
``store``     files that are there whole or not at all, and the manifest
``video``     frames out of a video and back into one, through PyAV
``coding``    a video's pictures as pixels and back: orientation, colours, chroma
``frames``    frames on their way through a workflow, 16 bits deep
``muxing``    what a video has beside its pictures, and what cannot be kept
============  ========================================================================

Workers neither read nor write files: bytes go in and bytes come out, so an engine may run them on
any machine. What comes out depends on a picture's bytes, its relative path, the workflow and the
options, never on order, engine, number of workers or restarts.
"""
