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

_names = (
    st.sampled_from(["p.a", "p.b", "q.c.d", "p.run_id", "p.filter", "squash.a", "nodot", "p.time"])
    | hostile_text
    | hostile_text.map("p.{}".format)
)
_units = st.sampled_from(["", "mag", "mmag", "m", "furlong", "arcsec/s", "1e3 m"]) | hostile_text
_measurements = st.fixed_dictionaries(
    {"metric": _names},
    optional={
        "value": numbers | st.none() | st.booleans() | hostile_text,
        "unit": _units | st.none(),
        "identifier": st.sampled_from(["i1", "i2"]) | hostile_text | st.none(),
        "blob_refs": values,
        "extra": values,
    },
)
_blobs = st.fixed_dictionaries({}, optional={"identifier": values, "name": values, "data": values})
jobs = st.fixed_dictionaries(
    {},
    optional={
        "measurements": st.lists(_measurements, max_size=5),
        "blobs": st.lists(_blobs, max_size=3),
        "meta": metas
        | st.builds(lambda meta, packages: {**meta, "packages": packages}, metas, values),
        "anything": values,
    },
)
wild_jobs = st.fixed_dictionaries(
    {}, optional={"measurements": values, "blobs": values, "meta": values}
)
