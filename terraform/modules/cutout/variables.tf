# What an operator decides. Settings that follow from these are in settings.tf.

# ---- Where ----------------------------------------------------------------------------------------

variable "project_id" {
  description = "The Google Cloud project that everything is created in. It must exist and have billing."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is the project's id, not its name or number: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "The region of the workers and, unless bucket_location says otherwise, of the buckets. It needs quota for L4 GPUs, except with size = \"cpu\"."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region such as europe-west1, not a zone or a multi-region."
  }
}

variable "name" {
  description = "What the names of all resources begin with. Two deployments in one project need two names. The worker's own defaults assume \"cutout\"."
  type        = string
  default     = "cutout"

  validation {
    # A service account's id has at most 30 characters; the longest suffix is "-autoscaler".
    condition     = can(regex("^[a-z][a-z0-9-]{1,17}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 19 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "labels" {
  description = "Labels for everything that can have some, for cost reports."
  type        = map(string)
  default     = {}
}

variable "enable_apis" {
  description = "Whether the APIs are enabled here. False where the organisation enables them elsewhere."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Whether Cloud Run refuses to delete the workers. Set it to false, apply, and only then destroy."
  type        = bool
  default     = true
}

# ---- Queue ----------------------------------------------------------------------------------------

variable "ingress" {
  description = "How jobs reach the workers: \"pull\" (a worker pool that pulls them) or \"push\" (a service that Pub/Sub pushes to, and that scales to zero by itself)."
  type        = string
  default     = "pull"

  validation {
    condition     = contains(["pull", "push"], var.ingress)
    error_message = "ingress must be \"pull\" or \"push\"."
  }
}

variable "message_retention_seconds" {
  description = "How long a job that nobody answered is kept. Longer than any outage you want to survive; Pub/Sub's most is 31 days."
  type        = number
  default     = 604800 # a week

  validation {
    condition     = var.message_retention_seconds >= 600 && var.message_retention_seconds <= 2678400
    error_message = "message_retention_seconds must be from 600 (10 minutes) to 2678400 (31 days)."
  }
}

variable "topic_retention_seconds" {
  description = "How long the jobs topic keeps what was published, answered or not, so that a subscription can be set back in time. 0 keeps nothing."
  type        = number
  default     = 604800

  validation {
    condition     = var.topic_retention_seconds == 0 || (var.topic_retention_seconds >= 600 && var.topic_retention_seconds <= 2678400)
    error_message = "topic_retention_seconds must be 0, or from 600 (10 minutes) to 2678400 (31 days)."
  }
}

variable "ack_deadline_seconds" {
  description = "Pub/Sub's acknowledgement deadline. Null for 60 with pull (the worker extends it) and 600 with push (it bounds the request, so it must not be shorter than the job time-out)."
  type        = number
  default     = null

  validation {
    condition     = var.ack_deadline_seconds == null || try(var.ack_deadline_seconds >= 10 && var.ack_deadline_seconds <= 600, false)
    error_message = "ack_deadline_seconds must be from 10 to 600."
  }

  validation {
    condition     = var.ingress == "pull" || var.ack_deadline_seconds == null || try(var.ack_deadline_seconds >= var.job_timeout_seconds, false)
    error_message = "With push, ack_deadline_seconds must not be below job_timeout_seconds: Pub/Sub would push a job again that is in work."
  }
}

variable "max_delivery_attempts" {
  description = "Deliveries after which Pub/Sub moves a message to the dead letters. Null for 10 with pull, and 100 with push, where every refused push counts."
  type        = number
  default     = null

  validation {
    condition     = var.max_delivery_attempts == null || try(var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100, false)
    error_message = "max_delivery_attempts must be from 5 to 100, which is what Pub/Sub takes."
  }
}

variable "exactly_once" {
  description = "Exactly-once delivery. Workers need none (a second delivery writes nothing new); it makes Pub/Sub slower. Only with pull."
  type        = bool
  default     = false

  validation {
    condition     = !var.exactly_once || var.ingress == "pull"
    error_message = "exactly_once needs ingress = \"pull\": Pub/Sub has it for no push subscription."
  }
}

variable "jobs_schema" {
  description = "A Pub/Sub schema that messages must follow to be published at all: type AVRO or PROTOCOL_BUFFER, and its definition. Null for none, as workers check every job themselves. Not with upload_notifications, whose messages follow Cloud Storage's form."
  type = object({
    type       = string
    definition = string
  })
  default = null

  validation {
    condition     = var.jobs_schema == null || try(contains(["AVRO", "PROTOCOL_BUFFER"], var.jobs_schema.type), false)
    error_message = "jobs_schema.type must be AVRO or PROTOCOL_BUFFER."
  }

  validation {
    condition     = var.jobs_schema == null || !var.upload_notifications
    error_message = "jobs_schema refuses Cloud Storage's notifications: set upload_notifications = false."
  }
}

variable "publishers" {
  description = "Who may publish jobs: members such as serviceAccount:storefront@my-project.iam.gserviceaccount.com."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.publishers : can(regex("^(serviceAccount|user|group):[^@]+@.+$", member))])
    error_message = "publishers must be members: serviceAccount:…, user:… or group:…; nobody else may publish."
  }
}

variable "result_consumers" {
  description = "Who may read results from the subscription to them: members as in publishers."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.result_consumers : can(regex("^(serviceAccount|user|group):[^@]+@.+$", member))])
    error_message = "result_consumers must be members: serviceAccount:…, user:… or group:…."
  }
}

# ---- Buckets --------------------------------------------------------------------------------------

variable "existing_uploads_bucket" {
  description = "A bucket that photos are already uploaded to. Null to create one. Its own settings stay as they are."
  type        = string
  default     = null
}

variable "existing_results_bucket" {
  description = "A bucket that outputs are already read from. Null to create one. Its own settings stay as they are: give it a lifecycle rule for inspirenet-cache/ (docs/deploy.md)."
  type        = string
  default     = null
}

variable "bucket_location" {
  description = "Where created buckets are: a region, or a multi-region such as EU. Null for region, where reading costs no traffic."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether destroying deletes buckets that hold photos. Leave it false wherever photos matter."
  type        = bool
  default     = false
}

variable "uploads_lifetime_days" {
  description = "Days after which uploaded photos are deleted from the created bucket. Null to keep them."
  type        = number
  default     = null

  validation {
    condition     = var.uploads_lifetime_days == null || try(var.uploads_lifetime_days >= 8, false)
    error_message = "uploads_lifetime_days must be at least 8: jobs wait for up to a week, and one whose photo is gone fails."
  }
}

variable "results_lifetime_days" {
  description = "Days after which outputs are deleted from the created bucket. Null to keep them. A job that comes again after that is computed again."
  type        = number
  default     = null

  validation {
    condition     = var.results_lifetime_days == null || try(var.results_lifetime_days >= 1, false)
    error_message = "results_lifetime_days must be at least 1."
  }
}

variable "upload_notifications" {
  description = "Whether every upload becomes a job with default options. False where the storefront publishes jobs itself."
  type        = bool
  default     = true
}

variable "upload_prefix" {
  description = "Only uploads whose names begin with this become jobs. Empty for all."
  type        = string
  default     = ""
}

# ---- Workers --------------------------------------------------------------------------------------

variable "image" {
  description = "The worker's container image, by digest or tag. Null for everything but the workers: the first apply makes the registry that the image is pushed to."
  type        = string
  default     = null
}

variable "builds" {
  description = "Whether Cloud Build may build the image in this project: an account with the least that cloudbuild.yaml needs, a repository for layers of former builds and a bucket for sources, networks and bills of materials. False where images come from elsewhere."
  type        = bool
  default     = true
  nullable    = false
}

variable "size" {
  description = "One worker's size: \"l4\" (an L4, 8 CPU, 32 GiB), \"l4-small\" (an L4, 4 CPU, 16 GiB) or \"cpu\" (no GPU, 4 CPU, 8 GiB)."
  type        = string
  default     = "l4"

  validation {
    condition     = contains(["l4", "l4-small", "cpu"], var.size)
    error_message = "size must be l4, l4-small or cpu."
  }
}

variable "cpu" {
  description = "CPUs of one worker, instead of those of its size. Cloud Run asks for at least 4 with a GPU."
  type        = number
  default     = null

  validation {
    condition     = var.cpu == null || try(contains([1, 2, 4, 6, 8], var.cpu), false)
    error_message = "cpu must be 1, 2, 4, 6 or 8."
  }

  validation {
    condition     = var.cpu == null || var.size == "cpu" || try(var.cpu >= 4, false)
    error_message = "A worker with a GPU needs at least 4 CPUs."
  }
}

variable "memory_gib" {
  description = "Memory of one worker in GiB, instead of that of its size. Cloud Run asks for at least 16 with a GPU, and takes at most 32."
  type        = number
  default     = null

  validation {
    condition     = var.memory_gib == null || try(var.memory_gib >= 2 && var.memory_gib <= 32, false)
    error_message = "memory_gib must be from 2 to 32."
  }

  validation {
    condition     = var.memory_gib == null || var.size == "cpu" || try(var.memory_gib >= 16, false)
    error_message = "A worker with a GPU needs at least 16 GiB."
  }
}

variable "gpu_zonal_redundancy" {
  description = "Whether Cloud Run keeps GPUs of several zones ready. Costs more for each second and has a quota of its own; Pub/Sub keeps the jobs when a zone fails."
  type        = bool
  default     = false
}

variable "min_instances" {
  description = "Workers that always run. 0 scales to zero: the first photo then waits for minutes with pull, for a cold start with push."
  type        = number
  default     = 0

  validation {
    condition     = var.min_instances >= 0 && floor(var.min_instances) == var.min_instances
    error_message = "min_instances must be a whole number from 0."
  }
}

variable "max_instances" {
  description = "Workers at most: what a runaway queue can cost. Mind the quota for GPUs. docs/scale.md says how many a launch day takes."
  type        = number
  default     = 3

  validation {
    condition     = var.max_instances >= 1 && var.max_instances >= var.min_instances
    error_message = "max_instances must be at least 1 and not below min_instances."
  }
}

variable "concurrency" {
  description = "Jobs in work at once in one worker; with push also Cloud Run's concurrency, so that it starts another instance in time."
  type        = number
  default     = 10

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000
    error_message = "concurrency must be from 1 to 1000."
  }
}

variable "job_timeout_seconds" {
  description = "Time one job may take before it is given back to the queue."
  type        = number
  default     = 300

  validation {
    # With push Pub/Sub waits no longer than 600 s, and the worker refuses to start with more.
    condition     = var.job_timeout_seconds >= 30 && var.job_timeout_seconds <= (var.ingress == "push" ? 600 : 3600)
    error_message = "job_timeout_seconds must be from 30 to 3600, and at most 600 with push."
  }
}

variable "inspyrenet_mode" {
  description = "Which InSPyReNet network the image serves (INSPIRENET_MODE): base, fast or base-nightly. Null to leave the choice to the worker, or to CUTOUT_MODEL in environment."
  type        = string
  default     = "base"

  validation {
    condition     = var.inspyrenet_mode == null || try(contains(["base", "fast", "base-nightly"], var.inspyrenet_mode), false)
    error_message = "inspyrenet_mode must be base, fast, base-nightly or null."
  }
}

variable "inspyrenet_resize" {
  description = "How photos are brought to the network's size (INSPIRENET_RESIZE): static or dynamic. Null for the network's own way."
  type        = string
  default     = "dynamic"

  validation {
    condition     = var.inspyrenet_resize == null || try(contains(["static", "dynamic"], var.inspyrenet_resize), false)
    error_message = "inspyrenet_resize must be static, dynamic or null."
  }
}

variable "target_size" {
  description = "Side of the network's input in pixels (TARGET_SIZE). Null for the network's own."
  type        = number
  default     = 1024

  validation {
    condition     = var.target_size == null || try(var.target_size % 32 == 0 && var.target_size >= 32, false)
    error_message = "target_size must be a multiple of 32."
  }
}

variable "log_level" {
  description = "What workers log (LOG_LEVEL): error, warn, info, debug, trace, or a filter such as cutout=debug,info. Dashboard and alerts count lines of level info."
  type        = string
  default     = "info"
}

variable "environment" {
  description = "Further settings of the worker, by the names that `cutout worker --help` has. What has a variable of its own here is not taken."
  type        = map(string)
  default     = {}

  validation {
    # A misspelt name would be ignored by the worker, silently. scripts/terraform/check.py keeps this list
    # equal to what src/config.rs reads, less what this module or Cloud Run sets, and OpenTelemetry's own.
    condition = alltrue([for name in keys(var.environment) : contains([
      "CUTOUT_AB_ARM",
      "CUTOUT_AB_EXPERIMENT",
      "CUTOUT_AB_KEY",
      "CUTOUT_CACHE_TTL",
      "CUTOUT_CONFIG",
      "CUTOUT_CUDA_GRAPHS",
      "CUTOUT_DESTINATION_TEMPLATE",
      "CUTOUT_DEVICE_ID",
      "CUTOUT_ENGINE_CACHE",
      "CUTOUT_GIVE_UP_AFTER",
      "CUTOUT_GPU_MEMORY_LIMIT",
      "CUTOUT_HOME",
      "CUTOUT_HTTP_MAX_REQUESTS",
      "CUTOUT_LEASE_EXTENSION",
      "CUTOUT_LOG_FORMAT",
      "CUTOUT_MAX_BATCH",
      "CUTOUT_MAX_FILE_BYTES",
      "CUTOUT_MAX_LEASE",
      "CUTOUT_MAX_PIXELS",
      "CUTOUT_MAX_WAIT",
      "CUTOUT_MEMORY_BUDGET",
      "CUTOUT_MODEL",
      "CUTOUT_ORT_LIB",
      "CUTOUT_OVERWRITE",
      "CUTOUT_PRECISION",
      "CUTOUT_PUSH_CLOCK_SKEW",
      "CUTOUT_RATE_LIMIT",
      "CUTOUT_REVIEW",
      "CUTOUT_REVIEW_MAX_BORDER",
      "CUTOUT_REVIEW_MAX_COMPONENTS",
      "CUTOUT_REVIEW_MAX_COVERAGE",
      "CUTOUT_REVIEW_MAX_EDGE_WIDTH",
      "CUTOUT_REVIEW_MAX_UNCERTAIN",
      "CUTOUT_REVIEW_MIN_COVERAGE",
      "CUTOUT_REVIEW_PREFIX",
      "CUTOUT_SHADOW_KEEP_ABOVE",
      "CUTOUT_SHADOW_LOAD_WITHIN",
      "CUTOUT_SHADOW_MAX_WAITING",
      "CUTOUT_SHADOW_MEMORY",
      "CUTOUT_SHADOW_MODEL",
      "CUTOUT_SHADOW_PREFIX",
      "CUTOUT_SHADOW_SHARE",
      "CUTOUT_STUCK_AFTER",
      "CUTOUT_THREADS",
      "CUTOUT_UPLOAD_PAUSE",
      "OTEL_EXPORTER_OTLP_ENDPOINT",
      "OTEL_EXPORTER_OTLP_HEADERS",
      "OTEL_EXPORTER_OTLP_PROTOCOL",
      "OTEL_EXPORTER_OTLP_TIMEOUT",
      "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
      "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
      "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
      "OTEL_RESOURCE_ATTRIBUTES",
      "OTEL_SDK_DISABLED",
      "OTEL_SERVICE_NAME",
      "OTEL_TRACES_SAMPLER",
      "OTEL_TRACES_SAMPLER_ARG",
    ], name)])
    error_message = "environment has a name that the worker does not read, or that another variable of this module sets: see `cutout worker --help`."
  }
}

variable "http_api" {
  description = "Whether workers answer photos over HTTP too (docs/http-api.md). Only with push; callers outside the project also need service_ingress."
  type        = bool
  default     = false

  validation {
    condition     = !var.http_api || var.ingress == "push"
    error_message = "http_api needs ingress = \"push\": a worker pool has no address."
  }
}

variable "cors_origins" {
  description = "Web pages that may call the HTTP API, such as https://shop.example or https://*.myshopify.com."
  type        = list(string)
  default     = []
}

variable "service_ingress" {
  description = "From where the push service is reached. INGRESS_TRAFFIC_ALL opens it to the internet, where only the token of a push and the HTTP API's rate limit stand before the workers."
  type        = string
  default     = "INGRESS_TRAFFIC_INTERNAL_ONLY"

  validation {
    condition = contains([
      "INGRESS_TRAFFIC_INTERNAL_ONLY",
      "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
      "INGRESS_TRAFFIC_ALL",
    ], var.service_ingress)
    error_message = "service_ingress must be INGRESS_TRAFFIC_INTERNAL_ONLY, INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER or INGRESS_TRAFFIC_ALL."
  }
}

# ---- Autoscaling of the worker pool ---------------------------------------------------------------

variable "autoscaling" {
  description = "Whether CREMA scales the worker pool. Without it, min_instances workers are created and the number is yours to set. Push needs none."
  type        = bool
  default     = true
}

variable "autoscaler_target" {
  description = "Jobs in the queue, those in work included, that one worker is there for: about what it does in 60 s (docs/scale.md)."
  type        = number
  default     = 350

  validation {
    # Below that, workers are asked for because there are workers.
    condition     = var.autoscaler_target > 2 * var.concurrency
    error_message = "autoscaler_target must be above twice the concurrency: jobs in work count as backlog."
  }
}

variable "autoscaler_image" {
  description = "CREMA's image, as its project publishes it. 1.0 and 1.1 get no fixes any more."
  type        = string
  default     = "us-central1-docker.pkg.dev/cloud-run-oss-images/crema-v1/autoscaler:1.2"
}

variable "autoscaler_base_image" {
  description = "The Java base image that Cloud Run puts under CREMA's and keeps patched."
  type        = string
  default     = "us-central1-docker.pkg.dev/serverless-runtimes/google-24/runtimes/java25"
}

# ---- Watching it ----------------------------------------------------------------------------------

variable "alert_emails" {
  description = "Where alerts and the budget's warnings are sent."
  type        = set(string)
  default     = []
}

variable "notification_channels" {
  description = "Further notification channels for alerts, by their full names (projects/…/notificationChannels/…)."
  type        = list(string)
  default     = []
}

variable "alert_oldest_job_seconds" {
  description = "Age of the oldest unanswered job that raises an alert. Above the longest cold start, or every first photo does."
  type        = number
  default     = 600
}

variable "alert_failed_ratio" {
  description = "Share of the jobs that end as failed, from 0 to 1, that raises an alert."
  type        = number
  default     = 0.2

  validation {
    condition     = var.alert_failed_ratio > 0 && var.alert_failed_ratio < 1
    error_message = "alert_failed_ratio must lie between 0 and 1."
  }
}

variable "alert_cold_start_seconds" {
  description = "Time from a worker's start until its network is ready that raises an alert."
  type        = number
  default     = 60
}

variable "uptime_check" {
  description = "Whether Google asks the push service for /health. It needs service_ingress = INGRESS_TRAFFIC_ALL, and every question wakes a service that has scaled to zero."
  type        = bool
  default     = false

  validation {
    condition     = !var.uptime_check || (var.ingress == "push" && var.service_ingress == "INGRESS_TRAFFIC_ALL")
    error_message = "uptime_check needs ingress = \"push\" and service_ingress = \"INGRESS_TRAFFIC_ALL\": Google's checkers come from outside."
  }
}

variable "billing_account" {
  description = "The billing account (XXXXXX-XXXXXX-XXXXXX) for a budget with warnings. Null for none. Whoever applies needs the right to make budgets there."
  type        = string
  default     = null

  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account must be an id such as 012345-6789AB-CDEF01."
  }
}

variable "monthly_budget" {
  description = "Budget for a month, in whole units of the billing account's currency. It warns at 50, 90 and 100 %, and when 100 % are forecast; it stops nothing."
  type        = number
  default     = 500

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "monthly_budget must be a whole number from 1."
  }
}
