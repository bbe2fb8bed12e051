"""What the dashboard shows: a row for each question that somebody asks at night.

In queries `@` stands for the matchers of the dashboard's variables. tests/monitoring holds every query to what
a worker exports, and asks each of a real Prometheus.
"""

from __future__ import annotations

from looks import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    bars,
    heatmap,
    lines,
    listed,
    now,
    number,
    quantiles,
    query,
    states,
    table,
)

OUTCOMES = {"done": GREEN, "duplicate": BLUE, "failed": RED, "retried": ORANGE, "aborted": PURPLE}
FINAL = 'outcome=~"done|duplicate|failed"'
PHOTO_ROUTES = 'route=~"/remove-background|/api/v2/process|/api/v2/process-with-effects"'

WRONG = [
    number(
        "Workers ready",
        "Workers that take jobs: loaded, warm, not draining. **Do:** at 0, see CutoutAbsent (nobody is scraped) or "
        "CutoutNotReady (they do not become ready).",
        [now('sum(cutout_component_up{@,component="worker"})')],
        levels={0: RED, 1: GREEN},
        runbook=["cutoutabsent", "cutoutnotready"],
        none="no worker",
    ),
    number(
        "Jobs that failed",
        "Share of the jobs ended within the time shown that failed for good, the HTTP API's left out. Alarm above 20 %. "
        "**Do:** look at `Failures and returns, by code`; one code from one moment on is a change at the publisher.",
        [
            now(
                f'(sum(increase(cutout_jobs_total{{@,outcome="failed",ingress!="http"}}[$__range])) or vector(0)) '
                f'/ (sum(increase(cutout_jobs_total{{@,{FINAL},ingress!="http"}}[$__range])) > 0)'
            )
        ],
        unit="percentunit",
        levels={0.05: ORANGE, 0.2: RED},
        runbook=["cutoutjobsfailing"],
        none="no jobs",
        decimals=1,
    ),
    number(
        "Dead letters",
        "Messages that this worker, or its local queue, gave up within the time shown; those that Pub/Sub's own policy "
        "moves are not in it. **Do:** `cutout dlq list` says why each is there.",
        [now("sum(increase(cutout_dead_letters_total{@}[$__range]))")],
        levels={0.5: ORANGE},
        runbook=["cutoutdeadletters"],
        decimals=0,
    ),
    number(
        "Age when pulled, p90",
        "One job in ten is older than this when a worker gets it: how long the queue makes a shop wait. Alarm above 60 s. "
        "A worker sees only what it pulls; the age of the oldest is Pub/Sub's to tell (`oldest_unacked_message_age`). "
        "**Do:** add workers, if those that run are full.",
        [now("histogram_quantile(0.9, sum by (le) (rate(cutout_queue_age_seconds_bucket{@}[10m])))")],
        unit="s",
        levels={30: ORANGE, 60: RED},
        runbook=["cutoutqueueold"],
        none="no jobs",
        decimals=1,
    ),
    number(
        "HTTP photos that failed",
        "Share of the photos sent over HTTP within the time shown that were answered 500 or 504. Alarm above 5 %. "
        "**Do:** the log's `photo failed` has the code.",
        [
            now(
                f'(sum(increase(cutout_http_requests_total{{@,{PHOTO_ROUTES},status=~"500|504"}}[$__range])) or vector(0)) '
                f"/ (sum(increase(cutout_http_requests_total{{@,{PHOTO_ROUTES}}}[$__range])) > 0)"
            )
        ],
        unit="percentunit",
        levels={0.01: ORANGE, 0.05: RED},
        runbook=["cutouthttperrors"],
        none="no photos",
        decimals=1,
    ),
    number(
        "Restarts",
        "How often a worker was started again under the same address within the time shown. **Do:** the exit code and the "
        "last lines of each life say why. Workers that come back under another name are the platform's to count.",
        [now("sum(changes(process_start_time_seconds{@}[$__range]) and on (job, instance) cutout_build_info{@})")],
        levels={1: ORANGE, 3: RED},
        runbook=["cutoutrestarts"],
        none="no worker",
        decimals=0,
    ),
    states(
        "Parts of the workers",
        "`up` while every worker's part does its work, as /health says; `down` as soon as one worker's does not. "
        "**Do:** /health of the worker that says `down` (row `Queue and store`) has the reason in `detail`.",
        [query("min by (component) (cutout_component_up{@})", "{{component}}")],
        width=12,
        runbook=["cutoutenginedown", "cutoutstorageunavailable", "cutoutqueueunavailable"],
    ),
    table(
        "Alerts",
        "Alerts of monitoring/alerts.yaml that are pending or firing, if the same Prometheus evaluates them. "
        "**Do:** each has a section of its name in the runbook.",
        [listed('max by (alertname, alertstate, severity, instance) (ALERTS{alertname=~"Cutout.+"})')],
        width=12,
        runbook=["what-the-page-says"],
    ),
]

SPEED = [
    lines(
        "Jobs, by how they ended",
        "Deliveries answered a second. `retried` was given back and comes again, `duplicate` was done before. "
        "**Do:** nothing is done while jobs are pulled: CutoutNoProgress.",
        [query("sum by (outcome) (rate(cutout_jobs_total{@}[$__rate_interval]))", "{{outcome}}")],
        unit="suffix: jobs/s",
        stacked="normal",
        colors=OUTCOMES,
        width=12,
        runbook=["cutoutnoprogress"],
    ),
    lines(
        "Time of a job",
        "From the delivery to the answer, of jobs that ended. Waiting in the queue is not in it. **Do:** `Time by stage` "
        "shows which stage grew.",
        quantiles("cutout_job_seconds"),
        unit="s",
        width=12,
    ),
    heatmap(
        "Jobs, by their time",
        "How many jobs took how long. Two bands are two kinds of photo, or of worker. **Do:** a band that climbs is "
        "something that fills up: see `What is full?`.",
        "sum by (le) (increase(cutout_job_seconds_bucket{@}[$__rate_interval]))",
        width=12,
    ),
    lines(
        "Failures and returns, by code",
        "Deliveries that did not succeed, a second: `failed` for good, `retried` given back. `draining` is normal during a "
        "deployment. **Do:** what the code's row in the runbook says.",
        [
            query(
                'sum by (outcome, code) (rate(cutout_jobs_total{@,outcome=~"failed|retried|aborted"}[$__rate_interval])) > 0',
                "{{outcome}} {{code}}",
            )
        ],
        unit="suffix: jobs/s",
        width=12,
        runbook=["failure-codes", "cutoutjobsfailing"],
    ),
    lines(
        "Where the time goes",
        "Each stage's share of all time that jobs spend in stages. `wait` is waiting for memory, a core or the network. "
        "**Do:** much `wait` means that more comes than the worker can do; see `What is full?`.",
        [
            query(
                "sum by (stage) (rate(cutout_stage_seconds_sum{@}[$__rate_interval])) "
                "/ on () group_left () (sum(rate(cutout_stage_seconds_sum{@}[$__rate_interval])) > 0)",
                "{{stage}}",
            )
        ],
        unit="percentunit",
        stacked="normal",
        width=12,
    ),
    lines(
        "Time by stage, at the chosen quantile",
        "The variable `quantile` chooses: 0.5 is the middle, 0.95 and 0.99 the slow end. **Do:** `download` and `upload` are "
        "the store, `decode`, `compose`, `effects` and `encode` the CPU, `infer` the network.",
        [
            query(
                "histogram_quantile($quantile, sum by (stage, le) (rate(cutout_stage_seconds_bucket{@}[$__rate_interval])))",
                "{{stage}}",
            )
        ],
        unit="s",
        width=12,
    ),
    lines(
        "One run of the network",
        "Mean time of a run, whatever its batch. **Do:** another provider or precision than you chose means that the device "
        "was not found; a slow climb is heat, throttling or a neighbour.",
        [
            query(
                "sum by (model, provider, precision) (rate(cutout_inference_seconds_sum{@}[$__rate_interval])) "
                "/ sum by (model, provider, precision) (rate(cutout_inference_seconds_count{@}[$__rate_interval]))",
                "{{model}} {{provider}} {{precision}}",
            )
        ],
        unit="s",
        width=12,
        runbook=["cutoutinferenceslow"],
    ),
    lines(
        "Bytes read and written",
        "Photos read and cut-outs written. **Do:** nothing; a jump explains slow stages: other photos than before.",
        [
            query("sum(rate(cutout_bytes_in_total{@}[$__rate_interval]))", "read"),
            query("sum(rate(cutout_bytes_out_total{@}[$__rate_interval]))", "written"),
        ],
        unit="binBps",
        width=12,
    ),
]

FULL = [
    lines(
        "Memory budget",
        "Bytes for photos in work: used, and asked for by jobs that wait, of the total. Alarm when a quarter of a worker's "
        "total is waited for. **Do:** nothing while photos are quick enough; else more memory, or more workers.",
        [query("sum by (state) (cutout_memory_budget_bytes{@})", "{{state}}")],
        unit="bytes",
        colors={"used": BLUE, "waiting": ORANGE, "total": GREEN},
        runbook=["cutoutmemoryfull", "memory-and-how-many-jobs-at-once"],
    ),
    lines(
        "Jobs in flight",
        "Deliveries between pull and answer, and photos over HTTP in work. **Do:** at `--max-jobs` for each worker they are "
        "full; held and never answered is CutoutJobsStuck.",
        [query("sum by (ingress) (cutout_jobs_in_flight{@})", "{{ingress}}")],
        stacked="normal",
        runbook=["cutoutjobsstuck"],
    ),
    lines(
        "Jobs that wait, by stage",
        "`download` waits for memory for files, `decode` for pixels or a core, `infer` for the network. **Do:** the longest "
        "line names what is short.",
        [query("sum by (stage) (cutout_stage_queue_depth{@})", "{{stage}}")],
        stacked="normal",
        runbook=["cutoutjobsstuck"],
    ),
    lines(
        "Photos in one run",
        "Mean batch. 1 on a CPU; on a card less than `--max-batch` under load means that photos of one size do not come "
        "together. **Do:** compare with `--max-batch` and `--max-wait`.",
        [
            query(
                "sum(rate(cutout_batch_size_sum{@}[$__rate_interval])) / sum(rate(cutout_batch_size_count{@}[$__rate_interval]))",
                "photos",
            )
        ],
    ),
    lines(
        "Resident memory",
        "What the kernel counts for each worker: network, budget and the rest. **Do:** near the container's limit, lower "
        "`--memory-budget` by a quarter before the kernel kills it (exit 137).",
        [query("process_resident_memory_bytes{@}", "{{instance}}")],
        unit="bytes",
        runbook=["memory-and-how-many-jobs-at-once"],
    ),
    lines(
        "Cores in use",
        "CPU seconds a second of each worker. **Do:** at the container's limit the CPU is what is short; far below it with "
        "jobs waiting, it is memory, the store or the card.",
        [query("rate(process_cpu_seconds_total{@}[$__rate_interval])", "{{instance}}")],
        unit="suffix: cores",
    ),
    lines(
        "Memory of the card",
        "Used by all processes on the card, and its total. Empty where the network runs on no card. **Do:** near the total, "
        "set `--gpu-memory-limit` or a smaller `--max-batch`.",
        [query("sum by (instance, state) (cutout_gpu_memory_bytes{@})", "{{instance}} {{state}}")],
        unit="bytes",
    ),
    lines(
        "Open files",
        "Share of the file descriptors that a worker may have. **Do:** a steady climb is a leak: restart the worker and "
        "report it.",
        [query("process_open_fds{@} / process_max_fds{@}", "{{instance}}")],
        unit="percentunit",
        levels={0.8: RED},
    ),
    lines(
        "Threads",
        "Threads of each worker. **Do:** nothing; far more than cores and clients explain is a defect worth a report.",
        [query("process_threads{@}", "{{instance}}")],
    ),
]

QUEUE = [
    lines(
        "Deliveries and answers",
        "Pulled a second, and ended a second. **Do:** a gap that stays is work that goes round: CutoutNoProgress.",
        [
            query("sum(rate(cutout_queue_age_seconds_count{@}[$__rate_interval]))", "pulled"),
            query(f'sum(rate(cutout_jobs_total{{@,{FINAL},ingress!="http"}}[$__rate_interval]))', "ended"),
        ],
        unit="suffix: /s",
        width=12,
        runbook=["cutoutnoprogress"],
    ),
    lines(
        "Age of jobs when pulled",
        "Since their publication. What comes again is old: see the retries beside it. Alarm when p90 is above 60 s for ten "
        "minutes. **Do:** add workers, if those that run are full.",
        quantiles("cutout_queue_age_seconds"),
        unit="s",
        levels={60: RED},
        width=12,
        runbook=["cutoutqueueold"],
    ),
    lines(
        "Tried again, by operation and code",
        "`job` is a whole delivery given back, `store_*` one request, `pull` the queue, `publish_result`, `dead_letter` and "
        "`answer` the answer. **Do:** what the code's row in the runbook says.",
        [query("sum by (op, code) (rate(cutout_retries_total{@}[$__rate_interval])) > 0", "{{op}} {{code}}")],
        unit="suffix: /s",
        width=12,
        runbook=["cutoutretries"],
    ),
    states(
        "Queue and store, as each worker sees them",
        "One worker alone that sees an end down has a fault of its own; all of them, the end has. **Do:** /health's `detail` "
        "names it. They go on by themselves.",
        [query('cutout_component_up{@,component=~"queue|storage"}', "{{instance}} {{component}}")],
        width=12,
        runbook=["cutoutqueueunavailable", "cutoutstorageunavailable"],
    ),
    lines(
        "Dead letters, by reason",
        "Messages that can never succeed, within five minutes. **Do:** `image_corrupt` and `unsupported_format` now and then "
        "are customers' uploads; other codes want a cause.",
        [query("sum by (code) (increase(cutout_dead_letters_total{@}[5m])) > 0", "{{code}}")],
        stacked="normal",
        runbook=["cutoutdeadletters", "dead-letters"],
    ),
    lines(
        "Skipped notifications",
        "Storage notifications that are no job, within five minutes: our own outputs, folders, no images. **Do:** nothing; all "
        "of them skipped means that the notification's prefix or event type is wrong.",
        [query("sum by (reason) (increase(cutout_notifications_skipped_total{@}[5m]))", "{{reason}}")],
        stacked="normal",
    ),
    lines(
        "Duplicates",
        "Deliveries a second whose output was already there. **Do:** nothing; many without restarts or deployments mean leases "
        "that end too early (`--lease-extension`).",
        [query("sum(rate(cutout_duplicates_total{@}[$__rate_interval]))", "duplicates")],
        unit="suffix: /s",
    ),
]

START = [
    bars(
        "Phases of the slowest start",
        "Seconds of each part, of the worker that took longest for it; parts overlap, `total` is from exec to readiness. "
        "**Do:** `verify` and `session` read the model's file: a slow disk or volume; `warm_up` is the network itself.",
        [now("max by (phase) (cutout_startup_seconds{@})", "{{phase}}")],
        unit="s",
        width=12,
        runbook=["cutoutnotready", "startup"],
    ),
    lines(
        "Start, by worker",
        "From exec to readiness (0 until it is ready), and the session's part. **Do:** one worker far slower than the others "
        "has a slow disk or a throttled CPU.",
        [
            query('cutout_startup_seconds{@,phase="total"}', "{{instance}} total"),
            query("cutout_model_load_seconds{@}", "{{instance}} session"),
        ],
        unit="s",
        width=12,
        runbook=["cutoutnotready"],
    ),
    lines(
        "Age of the workers",
        "Since their start. A line that falls is a restart. **Do:** three within half an hour are CutoutRestarts.",
        [
            query(
                "time() - process_start_time_seconds{@} and on (job, instance) cutout_build_info{@}",
                "{{instance}}",
            )
        ],
        unit="s",
        width=24,
        runbook=["cutoutrestarts"],
    ),
]

HTTP = [
    lines(
        "Requests, by route and status",
        "Everything that is asked of the port: photos, probes, the page. **Do:** see `Not served` for what is wrong.",
        [query("sum by (route, status) (rate(cutout_http_requests_total{@}[$__rate_interval])) > 0", "{{route}} {{status}}")],
        unit="reqps",
        width=12,
    ),
    lines(
        "Time to the answer, p95",
        "From a request's head to its answer's head, by route of photos. **Do:** compare with `Time by stage`; what is slow "
        "here and not there waits for memory or a place.",
        [
            query(
                "histogram_quantile(0.95, sum by (route, le) "
                f"(rate(cutout_http_request_seconds_bucket{{@,{PHOTO_ROUTES}}}[$__rate_interval])))",
                "{{route}}",
            )
        ],
        unit="s",
        width=12,
    ),
    lines(
        "Not served, by status",
        "Requests for photos, within five minutes: 429 rate limit or full house, 499 the client went away first, 503 starting "
        "or draining, 500 and 504 failed, 400, 413, 415 and 422 no usable photo. **Do:** many 429 with free workers: raise "
        "`--rate-limit` or `--http-max-requests`; many 499: the client's time-out is shorter than a photo takes.",
        [
            query(
                f'sum by (status) (increase(cutout_http_requests_total{{@,{PHOTO_ROUTES},status=~"4..|5.."}}[5m])) > 0',
                "{{status}}",
            )
        ],
        stacked="normal",
        width=12,
        runbook=["cutouthttperrors"],
    ),
    lines(
        "Cache",
        "Photos a second by what the cache of cut-outs did for them. **Do:** `failed` and `not_kept` are the store; few `hit` "
        "where the same photos come again mean that the entries are gone too early.",
        [query("sum by (outcome) (rate(cutout_cache_requests_total{@}[$__rate_interval]))", "{{outcome}}")],
        unit="reqps",
        stacked="normal",
        colors={"hit": GREEN, "miss": BLUE, "shared": PURPLE, "failed": RED, "not_kept": ORANGE},
        width=12,
    ),
    lines(
        "Effects left out",
        "Effects that an answer had to leave out, within five minutes. **Do:** 0, or a defect: report it with the log line.",
        [query("sum by (effect) (increase(cutout_effects_failed_total{@}[5m]))", "{{effect}}")],
        levels={1: RED},
        width=12,
    ),
]

PUSH = [
    lines(
        "Pushes refused, by reason",
        "Within five minutes; only with `--ingress push`. Each counts as an attempt at Pub/Sub. **Do:** by reason, in the "
        "runbook; `signature`, `malformed` and `issuer` are strangers, `full` and `not_ready` a busy or starting worker.",
        [query("sum by (reason) (increase(cutout_push_refused_total{@}[5m])) > 0", "{{reason}}")],
        stacked="normal",
        width=12,
        runbook=["cutoutpushrefused"],
    ),
    lines(
        "Pushed jobs, by how they ended",
        "Deliveries a second that came by push. **Do:** nothing while Pub/Sub pushes and nothing comes here: look at the "
        "refusals beside it.",
        [query('sum by (outcome) (rate(cutout_jobs_total{@,ingress="push"}[$__rate_interval]))', "{{outcome}}")],
        unit="suffix: jobs/s",
        stacked="normal",
        colors=OUTCOMES,
        width=12,
        runbook=["cutoutpushrefused"],
    ),
]

MATTES = [
    lines(
        "Subject's share of the picture",
        "Quantiles over the mattes made. **Do:** a step without a deployment is a change of the photos that are sent; with one, of "
        "the network.",
        quantiles("cutout_matte_coverage_ratio"),
        unit="percentunit",
    ),
    lines(
        "Uncertain share of the picture",
        "Pixels with an alpha between 0.1 and 0.9. **Do:** where it rises, look at the copies for review; another network may "
        "know such photos better.",
        quantiles("cutout_matte_uncertain_ratio"),
        unit="percentunit",
    ),
    lines(
        "To be looked at, by reason",
        "Mattes a second that passed a bound of `--review-…`; one may have several reasons. **Do:** look at the copies under the "
        "review prefix, and set the bounds so that they are worth a look.",
        [query("sum by (reason) (rate(cutout_reviews_total{@}[$__rate_interval]))", "{{reason}}")],
        unit="suffix: mattes/s",
        stacked="normal",
    ),
]

NETWORKS = [
    lines(
        "Shadow and network apart",
        "Mean difference of the two mattes, 0 to 1; only with `--shadow-model`. **Do:** look at the records of the photos at the "
        "upper end, which have both mattes.",
        quantiles("cutout_shadow_difference_ratio", '@,measure="mean"'),
        unit="percentunit",
    ),
    lines(
        "Shadows, by what became of them",
        "Chosen jobs, within an hour. **Do:** `dropped_large` needs more `--shadow-memory`; many `interrupted` or `dropped_full` mean "
        "that the worker is hardly ever idle: lower `--shadow-share`.",
        [query("sum by (outcome) (increase(cutout_shadow_runs_total{@}[1h])) > 0", "{{outcome}}")],
        stacked="normal",
        colors={"done": GREEN, "failed": RED, "not_stored": RED, "interrupted": ORANGE},
    ),
    lines(
        "Shadows that are loaded",
        "Workers whose shadow takes photos. **Do:** where it is less than the workers that are told to have one, their logs say "
        "why it did not load.",
        [query("sum(cutout_shadow_up{@})", "workers")],
        unit="suffix: workers",
    ),
    lines(
        "Jobs, by arm",
        "Jobs a second that ended, by arm; only with `--ab-arm`. **Do:** shares other than the configured ones mean few keys with many "
        "jobs each.",
        [query(f"sum by (arm) (rate(cutout_arm_jobs_total{{@,{FINAL}}}[$__rate_interval]))", "{{arm}}")],
        unit="suffix: jobs/s",
        stacked="normal",
    ),
    lines(
        "Time of a job, p95 by arm",
        "From the worker's hands on the message to the durable output. **Do:** nothing by itself; decide before you look how many jobs it "
        "takes.",
        [
            query(
                "histogram_quantile(0.95, sum by (arm, le) (rate(cutout_arm_job_seconds_bucket{@}[$__rate_interval])))",
                "{{arm}}",
            )
        ],
        unit="s",
    ),
    lines(
        "To be looked at, by arm",
        "Share of an arm's done jobs whose verdict is `review`, within an hour. **Do:** as with the times.",
        [
            query(
                "sum by (arm) (increase(cutout_arm_reviews_total{@}[1h])) "
                '/ (sum by (arm) (increase(cutout_arm_jobs_total{@,outcome="done"}[1h])) > 0)',
                "{{arm}}",
            )
        ],
        unit="percentunit",
    ),
]

RUNS = [
    table(
        "Builds",
        "Version, commit and ONNX Runtime of each worker. **Do:** two versions for longer than a deployment takes is one "
        "that got stuck.",
        [listed("max by (instance, version, commit, ort) (cutout_build_info{@})")],
        width=12,
    ),
    table(
        "Networks",
        "What each worker computes with, and how many runs it has done since its start. **Do:** a provider other than the one "
        "you chose means that the device was not found.",
        [listed("sum by (instance, model, provider, precision) (cutout_inference_seconds_count{@})")],
        "runs",
        width=12,
        runbook=["cutoutinferenceslow"],
    ),
]

ROWS = [
    ("Is anything wrong?", WRONG, False),
    ("Are photos done, and how quickly?", SPEED, False),
    ("What is full?", FULL, False),
    ("Queue and store", QUEUE, False),
    ("HTTP API", HTTP, True),
    ("Push", PUSH, True),
    ("Are the mattes as ever?", MATTES, True),
    ("Other networks: shadow and A/B", NETWORKS, True),
    ("Starts", START, True),
    ("What is running", RUNS, True),
]
"""Title, panels, and whether the row is folded at first."""
