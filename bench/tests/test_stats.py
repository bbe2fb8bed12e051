"""The order of turns and the arithmetic of their times, on made-up times."""

import unittest
from collections import Counter

from bench.peers import stats


def turn(
    contender, seconds, *, chunk=0, round_=0, photos=10, set_="mixed", cpu=1.0, others=0.0, size=0
):
    return stats.Turn(set_, round_, chunk, contender, photos, seconds, cpu, others, size)


class Order(unittest.TestCase):
    def test_chunks_hold_every_item_once_and_in_order(self):
        for count in range(1, 40):
            items = list(range(count))
            self.assertEqual(sum(stats.chunks(items, 15), []), items)

    def test_what_is_left_over_is_spread_over_the_chunks(self):
        self.assertEqual([len(chunk) for chunk in stats.chunks(range(60), 15)], [15] * 4)
        self.assertEqual([len(chunk) for chunk in stats.chunks(range(62), 15)], [15, 16, 15, 16])
        self.assertEqual([len(chunk) for chunk in stats.chunks(range(3), 15)], [3])

    def test_every_contender_has_every_chunk_in_every_round_once(self):
        order = list(stats.turns(["a", "b", "c"], 4, 2))
        self.assertEqual(len(order), 24)
        self.assertEqual(set(Counter(order).values()), {1})

    def test_all_have_had_a_chunk_before_the_next_begins(self):
        order = list(stats.turns(["a", "b", "c"], 4, 2))
        for start in range(0, len(order), 3):
            self.assertEqual(len({entry[:2] for entry in order[start : start + 3]}), 1)

    def test_everybody_goes_first_equally_often(self):
        order = list(stats.turns(["a", "b"], 4, 2))
        self.assertEqual(Counter(entry[2] for entry in order[::2]), {"a": 4, "b": 4})


class Spread(unittest.TestCase):
    def test_the_median_is_given_with_the_extremes(self):
        self.assertEqual(stats.spread([3.0, 1.0, 2.0, 10.0]), stats.Spread(2.5, 1.0, 10.0, 4))

    def test_no_values_have_no_spread(self):
        with self.assertRaises(ValueError):
            stats.spread([])


class Ratios(unittest.TestCase):
    def test_a_chunk_is_compared_with_itself_in_the_same_round_only(self):
        turns = [
            turn("ours", 10.0, chunk=0), turn("peer", 20.0, chunk=0),
            turn("peer", 90.0, chunk=1), turn("ours", 30.0, chunk=1),
            turn("ours", 5.0, round_=1), turn("peer", 20.0, round_=1),
        ]  # fmt: skip
        self.assertEqual(sorted(stats.ratios(turns, "ours", "peer")), [2.0, 3.0, 4.0])

    def test_a_turn_without_its_partner_counts_for_nothing(self):
        turns = [turn("ours", 10.0), turn("peer", 20.0), turn("peer", 70.0, chunk=1)]
        self.assertEqual(stats.ratios(turns, "ours", "peer"), [2.0])

    def test_a_chunk_that_was_counted_twice_is_refused(self):
        with self.assertRaises(ValueError):
            stats.ratios([turn("ours", 1.0), turn("ours", 1.0)], "ours", "peer")


class Throughput(unittest.TestCase):
    def test_each_set_has_its_own_rate_and_ratio(self):
        rows = stats.throughput(
            [
                turn("ours", 10.0, photos=20), turn("peer", 30.0, photos=20),
                turn("ours", 10.0, photos=5, set_="12mp"),
                turn("peer", 15.0, photos=5, set_="12mp"),
            ],
            "ours",
        )  # fmt: skip
        found = {
            (row["set"], row["contender"]): (
                row["photos_per_second"],
                row["times"] and row["times"]["median"],
            )
            for row in rows
        }
        self.assertEqual(found, {
            ("mixed", "ours"): (2.0, None), ("mixed", "peer"): (20 / 30, 3.0),
            ("12mp", "ours"): (0.5, None), ("12mp", "peer"): (5 / 15, 1.5),
        })  # fmt: skip

    def test_long_turns_weigh_more_than_short_ones(self):
        rows = stats.throughput(
            [
                turn("ours", 10.0, photos=1, cpu=4.0, others=0.0, size=2**20),
                turn("ours", 30.0, photos=3, cpu=8.0, others=1.0, size=7 * 2**20, chunk=1),
            ],
            "ours",
        )
        self.assertEqual(rows[0]["cpu_seconds_per_photo"], 3.0)
        self.assertEqual(rows[0]["others"], 0.75)
        self.assertEqual(rows[0]["out_mib_per_photo"], 2.0)


class Cold(unittest.TestCase):
    def test_fresh_processes_are_paired_in_the_order_of_their_starts(self):
        starts = [
            stats.Start("ours", 1.0, 0.0), stats.Start("peer", 4.0, 0.0),
            stats.Start("peer", 6.0, 0.0), stats.Start("ours", 2.0, 0.0),
        ]  # fmt: skip
        ours, peer = stats.cold(starts, "ours")
        self.assertIsNone(ours["times"])
        self.assertEqual(peer["seconds"]["median"], 5.0)
        self.assertEqual((peer["times"]["least"], peer["times"]["most"]), (3.0, 4.0))


if __name__ == "__main__":
    unittest.main()
