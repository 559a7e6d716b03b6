"""Rated images: strict records, pairs, splits, importers."""

from zreward.data.importers.agiqa3k import agiqa3k_rubric, import_agiqa3k
from zreward.data.pairs import Pair, mine_pairs
from zreward.data.preference import Preference, Votes, record_preferences
from zreward.data.preference_files import load_preferences, save_preferences
from zreward.data.reading import load_records
from zreward.data.record import Record
from zreward.data.record_cache import open_records
from zreward.data.record_table import Records
from zreward.data.splits import check_disjoint, split_by_prompt
from zreward.data.writing import save_records

__all__ = [
    "Pair",
    "Preference",
    "Record",
    "Records",
    "Votes",
    "agiqa3k_rubric",
    "check_disjoint",
    "import_agiqa3k",
    "load_preferences",
    "load_records",
    "mine_pairs",
    "open_records",
    "record_preferences",
    "save_preferences",
    "save_records",
    "split_by_prompt",
]
