from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.agents.loads import from_message, to_message
from extproc.agents.proto.report_pb2 import Load
from extproc.pool.load import EngineLoad

_FIGURE = st.none() | st.floats(0, 1e6)
_NAMES = st.lists(st.text(max_size=5), max_size=3).map(tuple)


@given(
    st.builds(
        EngineLoad,
        engine=st.text(max_size=5),
        taken_at=st.just(3.0),
        running=_FIGURE,
        waiting=_FIGURE,
        kv_usage=_FIGURE,
        prompt_tokens_total=_FIGURE,
        generated_tokens_total=_FIGURE,
        prompt_per_s=_FIGURE,
        generated_per_s=_FIGURE,
        block_size=_FIGURE,
        num_blocks=_FIGURE,
        source=st.just("agent"),
    ),
    st.none() | st.tuples(_NAMES, _NAMES, _FIGURE),
)
def test_every_figure_survives_the_wire_and_unknown_stays_unknown(
    load: EngineLoad, adapters: tuple[tuple[str, ...], tuple[str, ...], float | None] | None
) -> None:
    running, waiting, limit = adapters or (None, None, None)
    figures = {name: getattr(load, name) for name in load.__struct_fields__}
    figures |= {"running_adapters": running, "waiting_adapters": waiting, "max_adapters": limit}
    wanted = EngineLoad(**figures)
    assert from_message(Load.FromString(to_message(wanted).SerializeToString()), 3.0) == wanted
