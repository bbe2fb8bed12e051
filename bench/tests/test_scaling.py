"""The simulation against queueing theory and its own promises."""

import random
import statistics
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scaling import arrivals, theory
from scaling.autoscaler import Autoscaler, Scaling
from scaling.cores import Cores
from scaling.des import simpy
from scaling.fleet import Fleet, Scenario, quantile, run, simulate
from scaling.photos import Mix, Photo
from scaling.worker import WorkerSpec

ONE = WorkerSpec(cores=1, max_jobs=1, cold_start=0.0)


class Exponential(Mix):
    """Photos whose time in the network is exponential around a mean."""

    def __init__(self, mean):
        super().__init__([Photo(infer=mean)])

    def draw(self, chance):
        return Photo(infer=chance.expovariate(1 / self.photos[0].infer))


def observed(mix, rate, workers, jobs=25_000, seed=12):
    """Messages of a long run, and the rate and mean service that chance really gave it.

    Formulas are asked about these rather than about the rate that was meant: close to saturation the
    wait is so sensitive to them that a run ten times as long would be needed.
    """
    times = arrivals.steady(rate * 3600, jobs / rate, random.Random(seed))
    messages = run(Scenario({"all": times}, mix, ONE, Scaling.fixed(workers)), seed).queue.messages
    service = statistics.mean(m.photo.infer for m in messages)
    return messages, len(times) / times[-1], service


def waits(messages):
    return [m.taken - m.published for m in messages]


class Theory(unittest.TestCase):
    def test_one_worker_with_exponential_service_waits_as_mm1_says(self):
        self.assertAlmostEqual(theory.mmc_wait(0.7, 1.0, 1), 0.7 / 0.3, places=9)
        messages, rate, service = observed(Exponential(1.0), 0.5, 1)
        expected = theory.mmc_wait(rate, service, 1)
        self.assertAlmostEqual(statistics.mean(waits(messages)) / expected, 1, delta=0.05)

    def test_one_worker_with_constant_service_waits_half_of_that(self):
        messages, rate, service = observed(Mix([Photo(infer=1.0)]), 0.7, 1)
        expected = theory.md1_wait(rate, service)
        self.assertAlmostEqual(expected, theory.mmc_wait(rate, service, 1) / 2)
        self.assertAlmostEqual(statistics.mean(waits(messages)) / expected, 1, delta=0.05)

    def test_three_workers_wait_as_mmc_says_also_in_the_tail(self):
        messages, rate, service = observed(Exponential(1.0), 1.8, 3)
        seen = sorted(waits(messages))
        self.assertAlmostEqual(
            statistics.mean(seen) / theory.mmc_wait(rate, service, 3), 1, delta=0.07
        )
        tail = theory.mmc_wait_quantile(rate, service, 3, 0.95)
        self.assertAlmostEqual(quantile(seen, 0.95) / tail, 1, delta=0.07)

    def test_each_wait_is_the_one_that_the_recursion_gives(self):
        """Kiefer and Wolfowitz: a job begins when the first of the workers is free. Exact, job by job."""
        for workers in (1, 3):
            messages, _, _ = observed(Exponential(1.0), 0.9 * workers, workers, jobs=2000)
            free = [0.0] * workers
            for message in messages:
                free.sort()
                begins = max(free[0], message.published)
                self.assertAlmostEqual(message.taken, begins, places=6)
                free[0] = begins + message.photo.infer

    def test_erlangs_formula_gives_known_values(self):
        self.assertAlmostEqual(theory.erlang_c(1, 0.5), 0.5)
        self.assertAlmostEqual(theory.erlang_c(2, 1.0), 1 / 3)

    def test_a_backlog_drains_in_jobs_over_workers_times_rate(self):
        mix, jobs, workers = Mix([Photo(infer=0.5)]), 600, 3
        out = simulate(Scenario({"all": [0.0] * jobs}, mix, ONE, Scaling.fixed(workers)))
        self.assertAlmostEqual(out.ages["all"].drained, jobs * 0.5 / workers)

    def test_a_busy_worker_does_what_its_tightest_bound_allows(self):
        photo = Photo(0.05, 0.1, 0.04, 0.05, 0.1, 0.1)
        specs = {
            "cores": WorkerSpec(cores=4, cold_start=0),
            "engine": WorkerSpec(cores=16, cold_start=0),
            "jobs": WorkerSpec(cores=16, max_jobs=4, cold_start=0),
        }
        for bound, spec in specs.items():
            with self.subTest(bound):
                expected = theory.capacity(Mix([photo]), spec)
                self.assertEqual(expected.bound, bound)
                out = simulate(Scenario({"all": [0.0] * 2000}, Mix([photo]), spec, Scaling.fixed(1)))
                self.assertAlmostEqual(2000 / out.ages["all"].drained / expected.rate, 1, delta=0.03)

    def test_batches_cost_what_the_formula_says(self):
        spec = WorkerSpec(cores=4, max_jobs=8, max_batch=4, batch_share=0.25, cold_start=0)
        mix = Mix([Photo(infer=1.0)])
        out = simulate(Scenario({"all": [0.0] * 400}, mix, spec, Scaling.fixed(1)))
        self.assertAlmostEqual(theory.capacity(mix, spec).rate, 4 / 1.75)
        self.assertAlmostEqual(out.ages["all"].drained, 400 * 1.75 / 4, delta=2)


class SharedCores(unittest.TestCase):
    def finish(self, count, *work):
        env = simpy.Environment()
        cores, ends = Cores(env, count), {}

        def one(name, start, seconds, threads):
            yield env.timeout(start)
            yield cores.work(seconds, threads)
            ends[name] = env.now

        for name, task in enumerate(work):
            env.process(one(name, *task))
        env.run()
        return [round(ends[name], 6) for name in range(len(work))], cores

    def test_as_many_threads_as_cores_do_not_slow_each_other_down(self):
        ends, cores = self.finish(2, (0, 3, 1), (1, 1, 1))
        self.assertEqual(ends, [3, 2])
        self.assertAlmostEqual(cores.busy, 4)

    def test_more_threads_than_cores_share_them_evenly(self):
        # Until 1.5 s three threads share two cores; then the two of the first have one each.
        self.assertEqual(self.finish(2, (0, 2, 2), (0, 1, 1))[0], [2.5, 1.5])

    def test_nothing_is_lost_when_the_load_changes_often(self):
        work = [(0.1 * n, 0.3 + 0.01 * n, 1) for n in range(50)]
        ends, cores = self.finish(2, *work)
        self.assertAlmostEqual(cores.busy, sum(seconds for _, seconds, _ in work))
        self.assertGreaterEqual(max(ends), cores.busy / 2)


PHOTO = Photo(0.1, 0.1, 0.2, 0.03, 0.1, 0.15)


def spike(**scaling):
    times = arrivals.spike(1500, 60, 120, random.Random(5))
    base = arrivals.steady(600, 1200, random.Random(6))
    return Scenario(
        {"base": base, "spike": times},
        Mix([PHOTO, Photo(0.1, 0.05, 0.2, 0.02, 0.05, 0.1)]),
        WorkerSpec(cores=4, cold_start=20),
        Scaling(**{"minimum": 0, "maximum": 4, "target": 100, **scaling}),
    )


class Promises(unittest.TestCase):
    def test_every_arrival_finishes_once_whatever_is_killed_or_scaled_in(self):
        scenario = Scenario(**{**vars(spike()), "kills": [260, 300, 301, 420]})
        fleet = run(scenario, 7)
        messages = fleet.queue.messages
        self.assertEqual(len(messages), sum(map(len, scenario.arrivals.values())))
        self.assertTrue(all(m.finished is not None for m in messages))
        self.assertEqual(fleet.queue.unacked, 0)
        self.assertEqual(sum(w.done for w in fleet.workers), len(messages))
        self.assertGreater(sum(m.deliveries for m in messages), len(messages), "nothing was killed")

    def test_what_a_killed_worker_held_comes_again_when_its_lease_ends(self):
        spec = WorkerSpec(cores=1, max_jobs=1, cold_start=0, lease=60)
        mix = Mix([Photo(infer=10.0)])
        fleet = run(Scenario({"all": [0.0]}, mix, spec, Scaling.fixed(1), kills=[5]))
        (message,) = fleet.queue.messages
        self.assertEqual((message.deliveries, message.finished), (2, 75.0))
        self.assertEqual(message.taken, 0.0, "its age is that at the first pull")

    def test_a_drain_finishes_what_it_can_and_gives_the_rest_back_at_once(self):
        for seconds, expected in ((6.0, (1, 6.0)), (30.0, (2, 5 + 8 + 30.0))):
            env = simpy.Environment()
            spec = WorkerSpec(cores=1, max_jobs=1, cold_start=0, drain=8)
            fleet = Fleet(env, Scenario({}, Mix([PHOTO]), spec, Scaling.fixed(1)), random.Random(1))
            message = fleet.queue.publish(Photo(infer=seconds), "all")
            env.run(until=5)
            fleet.workers[0].stop()
            fleet.scale_to(1)
            env.run(until=100)
            self.assertEqual((message.deliveries, message.finished), expected)
            self.assertEqual(fleet.workers[0].ended, min(seconds, 13.0))

    def test_a_worker_that_was_stopped_takes_nothing_more(self):
        env = simpy.Environment()
        spec = WorkerSpec(cores=1, cold_start=0)
        fleet = Fleet(env, Scenario({}, Mix([PHOTO]), spec, Scaling.fixed(1)), random.Random(1))
        env.run(until=1)
        fleet.workers[0].stop()
        message = fleet.queue.publish(PHOTO, "all")
        env.run(until=100)
        self.assertIsNone(message.taken)

    def test_the_same_seed_gives_the_same_figures_and_another_does_not(self):
        self.assertEqual(simulate(spike(), 4), simulate(spike(), 4))
        self.assertNotEqual(simulate(spike(), 4), simulate(spike(), 5))

    def test_the_bill_is_the_workers_time_starts_included(self):
        spec = WorkerSpec(cores=4, cold_start=1800)
        scenario = Scenario({"all": [0.0]}, Mix([PHOTO]), spec, Scaling.fixed(2), seconds=3600)
        out = simulate(scenario)
        self.assertAlmostEqual(out.worker_hours, 2, places=2)
        self.assertAlmostEqual(out.cost, 2 * scenario.price.per_hour(4), places=2)


class Autoscaling(unittest.TestCase):
    def history(self, scenario, seed=2):
        """The number of active workers over time, asked each second."""
        seen = []
        original = Fleet.__init__

        def watched(fleet, env, *rest):
            original(fleet, env, *rest)

            def look():
                while True:
                    yield env.timeout(1)
                    seen.append(len(fleet.active()))

            env.process(look())

        Fleet.__init__ = watched
        try:
            run(scenario, seed)
        finally:
            Fleet.__init__ = original
        return seen

    def test_never_above_the_maximum_nor_below_the_minimum(self):
        for minimum, maximum, target in ((0, 1, 5), (0, 3, 1), (1, 4, 20), (2, 6, 50)):
            seen = self.history(spike(minimum=minimum, maximum=maximum, target=target))
            self.assertLessEqual(max(seen), maximum)
            self.assertGreaterEqual(min(seen), minimum)
            self.assertEqual(max(seen), maximum, "the spike asks for all")

    def test_the_first_worker_comes_only_when_the_metric_tells(self):
        times = [61.0]
        scenario = Scenario({"all": times}, Mix([PHOTO]), WorkerSpec(cold_start=20), Scaling())
        age = simulate(scenario).ages["all"].worst
        # Sampled at 120 s, shown at 240 s, polled at 240 or 270 s, ready 20 s later.
        self.assertGreaterEqual(age, 240 + 20 - 61)
        self.assertLessEqual(age, 270 + 20 - 61)

    def test_it_goes_back_to_zero_but_not_before_the_stabilisation_has_passed(self):
        seen = self.history(spike(stabilisation=300))
        self.assertEqual(seen[-1], 0)
        # The metric and the window keep workers for at least this long after the peak.
        peak = [second for second, workers in enumerate(seen) if workers == max(seen)]
        self.assertGreaterEqual(peak[-1] - peak[0], 300)

    def test_a_wish_close_to_what_there_is_changes_nothing(self):
        for backlog, expected in ((95, 2), (108, 2), (112, 3), (89, 2)):
            env = simpy.Environment()
            scaling = Scaling(minimum=0, maximum=9, target=50, metric_delay=0)
            scaler = Autoscaler(env, scaling, lambda: backlog, lambda: 2, lambda wanted: None)
            env.run(until=1)
            self.assertEqual(scaler.wanted(), expected, backlog)

    def test_a_range_that_is_none_is_refused(self):
        for wrong in ({"minimum": 3, "maximum": 2}, {"maximum": 0}, {"target": 0}):
            with self.assertRaises(ValueError):
                Scaling(**wrong)


class Arrivals(unittest.TestCase):
    def test_a_steady_hour_has_about_its_number(self):
        times = arrivals.steady(10_000, 3600, random.Random(1))
        self.assertAlmostEqual(len(times), 10_000, delta=300)
        self.assertEqual(times, sorted(times))

    def test_a_day_follows_its_curve(self):
        hours = [0] * 12 + [1] * 12
        times = arrivals.day(12_000, random.Random(1), hours)
        self.assertAlmostEqual(len(times), 12_000, delta=400)
        self.assertGreaterEqual(times[0], 12 * 3600)

    def test_a_spike_is_all_there_and_within_its_time(self):
        times = arrivals.spike(500, 100, 60, random.Random(1))
        self.assertEqual(len(times), 500)
        self.assertTrue(100 <= times[0] and times[-1] <= 160)

    def test_a_trace_may_have_seconds_or_times_and_a_header(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trace.csv"
            file.write_text("published,id\n2026-11-25T10:00:05Z,a\n2026-11-25T10:00:00.5Z,b\n")
            self.assertEqual(arrivals.trace(file), [0, 4.5])
            file.write_text("3\n1\n")
            self.assertEqual(arrivals.trace(file), [0, 2])
            file.write_text("3\nnever\n")
            with self.assertRaisesRegex(ValueError, "line 2"):
                arrivals.trace(file)


if __name__ == "__main__":
    unittest.main()
