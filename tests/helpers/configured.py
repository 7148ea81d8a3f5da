"""A module as a configuration describes it."""

from jsonargparse import ArgumentParser
from pytorch_lightning import LightningModule


def configured(spec):
    """The LightningModule of ``{class_path, init_args}``, read as the command line reads it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=LightningModule)
    return parser.instantiate_classes(parser.parse_object({"it": spec})).it
