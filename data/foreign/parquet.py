"""Payloads as Parquet: vector (fixed-size list of float16 or float32), article_index, chunk_index, text, title."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError
from data.foreign.rows import Rows, as_int32
from data.io import replacing
from data.output import check_file, mark
from data.payload.store import KIND, UNKNOWN_EMBEDDER, Payload

_BATCH_ROWS = 16_384


def read_parquet(source: Path) -> Rows:
    """Read vector, article_index, chunk_index and, where present, text and title from Parquet, batch by batch."""
    import pyarrow.parquet as pq

    try:
        files = [pq.ParquetFile(file) for file in (sorted(source.glob("*.parquet")) if source.is_dir() else [source])]
        if not files:
            raise ValueError("no .parquet in the folder")
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: expected Parquet, got a damaged file ({error}); fetch it again") from None
    dim, dtype = _vector_column(files[0].schema_arrow, source)
    vectors = np.empty((sum(file.metadata.num_rows for file in files), dim), dtype)
    columns: dict[str, list[Any]] = {"article_index": [], "chunk_index": [], "text": [], "title": []}
    wanted = [name for name in columns if name in files[0].schema_arrow.names]
    start = 0
    for file in files:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["vector", *wanted]):
            flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
            vectors[start : start + batch.num_rows] = flat.reshape(batch.num_rows, dim)
            start += batch.num_rows
            for name in wanted:
                columns[name].extend(batch.column(name).to_pylist())
    articles = as_int32(np.array(columns["article_index"]), source)
    meta = files[0].schema_arrow.metadata or {}
    return Rows(
        vectors=vectors,
        article_index=articles,
        chunk_index=as_int32(np.array(columns["chunk_index"]), source),
        texts=columns["text"] if "text" in wanted else None,
        titles=dict(zip(articles.tolist(), columns["title"], strict=True)) if "title" in wanted else {},
        embedder=meta.get(b"embedder", UNKNOWN_EMBEDDER.encode()).decode(),
    )


def write_parquet(payload: Payload, out: Path) -> None:
    """Write a payload as one Parquet file with the columns that `read_parquet` reads, in batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(out, KIND, _read_mark, [payload.path])
    vector = pa.list_(pa.from_numpy_dtype(payload.vectors.dtype), payload.dim)
    fields = [("vector", vector), ("article_index", pa.int32()), ("chunk_index", pa.int32())]
    fields += [("text", pa.string()), ("title", pa.string())]
    meta = {
        "embedder": payload.provenance.embedder,
        "sha256": payload.provenance.sha256,
        "made_by": json.dumps(mark(KIND)),
    }
    schema = pa.schema(fields, metadata=meta)
    with replacing(out) as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, payload.num_rows, _BATCH_ROWS):
            rows = range(start, min(start + _BATCH_ROWS, payload.num_rows))
            part = slice(rows.start, rows.stop)
            flat = pa.array(np.ascontiguousarray(payload.vectors[part]).reshape(-1))
            arrays = [
                pa.FixedSizeListArray.from_arrays(flat, payload.dim),
                pa.array(payload.article_index[part]),
                pa.array(payload.chunk_index[part]),
                pa.array([payload.text(row) for row in rows]),
                pa.array([payload.article_title(int(article)) for article in payload.article_index[part]]),
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _read_mark(file: Path) -> Any:
    import pyarrow.parquet as pq

    return json.loads((pq.read_schema(file).metadata or {}).get(b"made_by", b"null"))


def _vector_column(schema: Any, where: Path) -> tuple[int, "np.dtype[Any]"]:
    import pyarrow as pa

    missing = [name for name in ("vector", "article_index", "chunk_index") if name not in schema.names]
    if missing:
        raise UserError(
            f"{where}: expected the columns vector, article_index and chunk_index, got {', '.join(schema.names)}; "
            f"add {', '.join(missing)}"
        )
    kind = schema.field("vector").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float16(), pa.float32()):
        raise UserError(
            f"{where}: expected vector as a fixed-size list of float16 or float32, got {kind}; cast the column"
        )
    return int(kind.list_size), np.dtype(kind.value_type.to_pandas_dtype())
