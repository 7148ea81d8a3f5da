"""What a user of ``lightning.pytorch`` writes."""

from helpers.both_names import parts

Net, Watch, Told, Data = parts("lightning.pytorch")
for kind in (Net, Watch, Told, Data):
    kind.__module__, kind.__qualname__ = __name__, kind.__name__
