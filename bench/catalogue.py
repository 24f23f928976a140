# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding entries: how long it takes among 3,000 and 30,000, how large the list is, and whether the right ones come."""
import os
import statistics
import tempfile
import time

from empiardownloader.catalogue.search import Query, search
from empiardownloader.catalogue.store import Store
from empiardownloader.tests.catalogue_entries import QUERIES, fill, records


def measure_catalogue():
    for count in (3000, 30000):
        entries, rows = records(count)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(os.path.join(folder, "catalogue.sqlite"))
            fill(store, entries, rows)
            seconds, plain, right, plainly_right = [], [], 0, 0
            for question, wanted in QUERIES:
                began = time.perf_counter()
                found = search(store, Query(question))
                seconds.append(time.perf_counter() - began)
                right += bool({entry.number for entry in found.entries[:3]} & set(wanted))
                began = time.perf_counter()
                # What a search without names, plurals and ranking would be.
                titles = store._database.execute(
                    "SELECT number FROM entries WHERE json_extract(facts, '$.title') LIKE ? LIMIT 3", (
                        "%" + question + "%",)).fetchall()
                plain.append(time.perf_counter() - began)
                plainly_right += bool({number for number, in titles} & set(wanted))
            began = time.perf_counter()
            many = search(store, Query("human")).total
            slowest = time.perf_counter() - began
            size = os.path.getsize(store.path)
            store.close()
        print("%6d entries: %.1f ms a question (median), %.1f ms the slowest, %.1f ms with %d answers; %.1f MB" % (
            count, 1e3 * statistics.median(seconds), 1e3 * max(seconds), 1e3 * slowest, many, size / 1e6))
        print("        among the first three %d of %d; LIKE over titles %d, and %.1f times as long" % (
            right, len(QUERIES), plainly_right, sum(plain) / sum(seconds)))
