variable "project_id" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "A region with L4 GPUs and quota for them."
  type        = string
  default     = "europe-west1"
}

variable "image" {
  description = "The worker's image, by digest; null for the first apply."
  type        = string
  default     = null
}

variable "existing_uploads_bucket" {
  description = "The bucket that the shop uploads to; null to create one."
  type        = string
  default     = null
}

variable "storefront" {
  description = "The storefront's identity, such as serviceAccount:storefront@my-project.iam.gserviceaccount.com: it publishes jobs and reads results."
  type        = string
  default     = null
}

variable "min_instances" {
  description = "Workers that always run; raise it a quarter of an hour before a launch."
  type        = number
  default     = 0
}

variable "max_instances" {
  description = "Workers at most."
  type        = number
  default     = 3
}

variable "alert_emails" {
  description = "Who is told."
  type        = set(string)
  default     = []
}

variable "billing_account" {
  description = "The billing account for the budget; null for none."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "The budget for a month."
  type        = number
  default     = 500
}
