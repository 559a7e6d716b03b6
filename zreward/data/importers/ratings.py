"""The published data sets whose pictures were rated one by one, each dimension on a range of its own."""

from __future__ import annotations

from zreward.data.importers import (
    aigciqa2023,
    aigiqa20k,
    deqa,
    evalmuse40k,
    qeval100k,
    richhf18k,
    skillaligned,
    visionrewarddb,
)

RATINGS = (
    evalmuse40k.DESCRIPTION,
    richhf18k.DESCRIPTION,
    aigiqa20k.DESCRIPTION,
    aigciqa2023.DESCRIPTION,
    deqa.DESCRIPTION,
    visionrewarddb.DESCRIPTION,
    qeval100k.DESCRIPTION,
    skillaligned.DESCRIPTION,
)
