"""Whatever JSON can hold, for properties: with the keys, types and clashes that jobs have."""

from hypothesis import strategies as st

HOSTILE = [
    *(
        "\\",
        ",",
        " ",
        "=",
        '"',
        "'",
        "#",
        "!",
        "~",
        "#!~#",
        "\\,",
        "\n",
        "\r",
        "\t",
        "\x00",
        "\x85",
    ),
    *("\u2028", "\ud800", "\ufffd", "é", "Ω", "😀", ".", "_", "text", ".text", "meta.", "a", "b"),
]
KEYS = [
    *("instrument", "filter_name", "physical_filter", "filter", "ci_dataset", "dataset", "status"),
    *("ci_name", "pipeline", "env_name", "ci_id", "run_id", "ci_url", "run_url", "version_tag"),
    *("date", "packages", "ci_label", "env", "time", "squash_id", "visit", "text", "a", "b"),
    *("a.text", "b.text", "a.b", "meta.a", "", "x" * 1001),
]

hostile_text = st.lists(st.sampled_from(HOSTILE), max_size=5).map("".join) | st.text(max_size=8)
keys = st.sampled_from(KEYS) | hostile_text
numbers = st.integers(-(2**66), 2**66) | st.floats() | st.sampled_from([0, -0.0, 1, 1.0, 1e18])
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | hostile_text
    | st.sampled_from(["plain", "https://ci.example/1", "y" * 1001, "z" * 64_001])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=6)
metas = objects | st.builds(lambda meta, env: {**meta, "env": env}, objects, objects)
