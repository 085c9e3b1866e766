"""The conversions of FP32 graphs, by the precision that they give; `sp_edge.precisions` says what each is held to."""

from collections.abc import Mapping

from sp_edge_export.precisions import fp16, int8
from sp_edge_export.precisions.conversion import Convert

CONVERSIONS: Mapping[str, Convert] = {"fp16": fp16.convert, "int8": int8.convert}
FOR_CPU: Mapping[str, Convert] = {"int8": int8.convert_for_cpu}  # into a second form, which CPUs run faster
