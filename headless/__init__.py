"""Runs a ComfyUI workflow file without ComfyUI: the ``undegrade`` command.

The way of a workflow through this package, one file per station:

=================  ===================================================================
``load``           a file on disk (JSON, or a PNG that carries one) -> a ``document``
``ui_format``      the document a user saves in ComfyUI (nodes, links, ``widget_values``)
``subgraphs``      a document's subgraphs, taken apart
``api_format``     the document ComfyUI's server takes ({id: {class_type, inputs}})
``settings``       ``--set`` and ``--input`` written into the document
``signature``      what a node class takes and gives, read from its INPUT_TYPES
``graph``          the plan both formats become: nodes, links, literal values
``harm``           tells of a workflow that spoils the picture it is given
``validation``     everything wrong with a plan, one sentence each
``execution``      runs a plan: on demand, list mapping, memory freed early
``progress``       one bar per node that reports progress
``folders``        where pictures are looked for and written, and under what name
``stock``          ComfyUI's own nodes that our workflows use, written anew
``pack``           the pack's nodes and the stock ones, as one catalog
``sheet``          several values of a widget, side by side
``blueprints``     the everyday jobs, and a workflow around the blueprint of each
``jobs``           those jobs as commands: what was found, before and after
``cli``            the command line and its exit status
``batch``          one workflow over many pictures and videos, by a loop or by Ray
=================  ===================================================================
"""

from .cli import main

__all__ = ["main"]
