"""What the simulation reads and says: benches, results, metrics, tables and service levels."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scaling import answers, cli, presets, report, roofline
from scaling.check import Drain, measured, photos_of_bench, photos_of_results, predict, stage_means
from scaling.fleet import Ages, Outcome
from scaling.photos import Mix, Photo
from scaling.worker import WorkerSpec


def bench(infer, provider="cpu"):
    """A report of `cutout bench stages --json`, as far as it is read."""
    spread = lambda seconds: {"median": seconds, "min": 0.0, "max": 9.0}
    row = {
        "photo": "some/where/cat.jpg",
        "width": 4000,
        "height": 3000,
        "decode": spread(0.07),
        "infer": spread(infer),
        "compose": spread(0.05),
        "encode": spread(0.1),
    }
    return {"model": "tiny", "provider": provider, "cores": 2, "threads": 2, "photos": [row]}


def result(queued, total, infer=0):
    stages = {"download": 1, "decode": 2, "infer": infer, "compose": 3, "encode": 4, "upload": 5}
    return {"timings_ms": {"queued": queued, "total": total, "wait": 7, **stages}}


def outcome(done, p95, drained, cost):
    ages = {tag: Ages(done, 0.0, p95, p95, p95, drained) for tag in ("base", "spike")}
    return Outcome(10, done, 0, ages, 3, 1.0, 0.5, 1.0, cost, cost)


class Reading(unittest.TestCase):
    def test_a_bench_becomes_photos_with_its_medians_and_assumed_transfers(self):
        (photo,) = Mix.of_bench(bench(0.3), presets.STAGES).photos
        self.assertEqual((photo.decode, photo.infer, photo.compose, photo.encode), (0.07, 0.3, 0.05, 0.1))
        self.assertAlmostEqual(photo.download, 0.05 + 12 * 0.003)

    def test_two_benches_of_a_photo_count_half_each(self):
        (photo,) = photos_of_bench([bench(0.2), bench(0.4)], ["cat.jpg"])
        self.assertAlmostEqual(photo.infer, 0.3)

    def test_results_are_read_in_the_order_of_their_pulls(self):
        results = [result(300, 40, infer=20), result(0, 50, infer=10)]
        self.assertEqual([p.infer for p in photos_of_results(results)], [0.01, 0.02])
        self.assertEqual(measured(results), Drain(0.34, 0.15, 0.3))

    def test_the_mean_of_a_stage_comes_from_sum_and_count(self):
        metrics = (
            '# HELP cutout_stage_seconds …\ncutout_stage_seconds_bucket{stage="decode",le="1"} 4\n'
            'cutout_stage_seconds_sum{stage="decode"} 2\ncutout_stage_seconds_count{stage="decode"} 4\n'
            'cutout_stage_seconds_sum{stage="infer"} 0\ncutout_stage_seconds_count{stage="infer"} 0\n'
            'cutout_inference_seconds_sum{model="m",provider="cpu"} 3\n'
            'cutout_inference_seconds_count{model="m",provider="cpu"} 2\n'
        )
        self.assertEqual(stage_means(metrics), {"decode": 0.5, "one run": 1.5})

    def test_a_prediction_is_that_of_the_engine_when_nothing_else_takes_time(self):
        spec = WorkerSpec(cores=2, max_jobs=2, cold_start=0)
        # Two are held at once; each later one is pulled when another is done.
        self.assertEqual(predict([Photo(infer=1.0)] * 4, spec), Drain(4.0, 0.75, 2.0))

    def test_work_beside_a_network_on_the_same_cores_slows_it_down(self):
        photos = [Photo(decode=0.5, infer=1.0)] * 6
        alone = predict(photos, WorkerSpec(cores=2, max_jobs=6, cold_start=0)).drained
        shared = predict(photos, WorkerSpec(cores=2, max_jobs=6, engine_threads=2, cold_start=0)).drained
        self.assertAlmostEqual(alone, 6.5)
        # No core idles but at the first photo's decoding: 6 · (2 · 1.0 + 0.5) core-seconds on two.
        self.assertAlmostEqual(shared, 7.5, delta=0.3)

    def test_the_network_is_counted_by_its_products(self):
        count = roofline.multiplications
        self.assertEqual(count("MatMul", [[8, 3, 5], [8, 5, 7]], [[8, 3, 7]]), 8 * 3 * 5 * 7)
        # Its left side may lie transposed.
        self.assertEqual(count("FusedMatMul", [[8, 5, 3], [8, 5, 7]], [[8, 3, 7]]), 8 * 3 * 5 * 7)
        self.assertEqual(count("Conv", [[1, 4, 9, 9], [6, 4, 3, 3]], [[1, 6, 9, 9]]), 6 * 81 * 4 * 9)
        self.assertEqual(count("Add", [[9], [9]], [[9]]), 0)


class Saying(unittest.TestCase):
    def test_a_row_holds_only_with_everything_done_in_time(self):
        asked = {"age": 60, "drain": 15}
        self.assertTrue(report.Row(1, 1, outcome(10, 60, 900, 1), **asked).holds())
        self.assertFalse(report.Row(1, 1, outcome(10, 61, 900, 1), **asked).holds())
        self.assertFalse(report.Row(1, 1, outcome(10, 60, 901, 1), **asked).holds())
        self.assertFalse(report.Row(1, 1, outcome(9, 60, 900, 1), **asked).holds())

    def test_a_sweep_names_the_cheapest_that_keeps_the_service_level(self):
        rows = [
            report.Row(50, 4, outcome(10, 10, 60, 3), age=60),
            report.Row(90, 3, outcome(10, 50, 60, 2), age=60),
            report.Row(99, 2, outcome(10, 70, 60, 1), age=60),
        ]
        self.assertIn("cheapest that keeps it: target 90, max 3", report.sweep(rows))
        self.assertIn("none keeps", report.sweep(rows[2:]))

    def test_a_target_is_never_within_what_a_worker_holds_anyway(self):
        spec = WorkerSpec(cores=4)
        self.assertEqual(answers.backlog(60, 13.34, spec), 800)
        self.assertEqual(answers.backlog(60, 0.1, spec), 2 * spec.jobs)


    def test_a_fleet_is_sized_by_what_one_worker_does_with_a_fifth_to_spare(self):
        rows = {row["per_minute"]: row for row in answers.sizing(10.0, 1.0)}
        # 10 photos a second, of which 8 are planned with: 480 a minute.
        self.assertEqual(rows[60]["workers"], 1)
        self.assertEqual(rows[600]["workers"], 2)
        self.assertEqual(rows[6_000]["workers"], 13)
        self.assertEqual(rows[600_000]["workers"], 1_250)
        self.assertAlmostEqual(rows[600]["cost_per_1000"], 2 / 36)


class Commands(unittest.TestCase):
    def say(self, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertEqual(cli.main([str(a) for a in arguments]), 0)
        return said.getvalue()

    def test_a_run_says_the_same_twice_and_in_json(self):
        run = ("run", "--per-hour", 600, "--spike", 300, "--spike-minutes", 1)
        self.assertEqual(self.say(*run), self.say(*run))
        told = json.loads(self.say(*run, "--json"))
        self.assertEqual(told["done"], told["published"])
        self.assertEqual(told["ages"]["spike"]["photos"], 300)

    def test_measured_stages_of_a_cpu_take_its_cores_and_no_card(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bench.json"
            run = ("run", "--measured", file, "--workers", 1, "--per-hour", 60, "--json")
            file.write_text(json.dumps(bench(0.3)))
            on_cpu = json.loads(self.say(*run))
            file.write_text(json.dumps(bench(0.3, "cuda")))
            on_card = json.loads(self.say(*run))
        self.assertLess(on_cpu["cost"], on_card["cost"] / 3)

    def test_what_cannot_be_is_said_and_not_simulated(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(cli.main(["run", "--min", "3", "--max", "2"]), 1)
        self.assertIn("3 to 2 workers is no range", said.getvalue())


if __name__ == "__main__":
    unittest.main()
