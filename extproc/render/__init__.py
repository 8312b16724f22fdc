"""Resources to Envoy configuration."""

from extproc.render.bootstrap import dynamic_bootstrap, dynamic_files, static_bootstrap, to_yaml
from extproc.render.config import EnvoyConfig, files_of, render, transition, with_texts
from extproc.render.parts import RenderError
from extproc.render.routes import digest
from extproc.render.unprocessed import Unprocessed, unprocessed_steps

__all__ = [
    "EnvoyConfig",
    "RenderError",
    "Unprocessed",
    "digest",
    "dynamic_bootstrap",
    "dynamic_files",
    "files_of",
    "render",
    "static_bootstrap",
    "to_yaml",
    "transition",
    "unprocessed_steps",
    "with_texts",
]
