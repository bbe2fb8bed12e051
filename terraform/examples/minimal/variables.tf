variable "project_id" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "The region of everything."
  type        = string
  default     = "europe-west1"
}

variable "image" {
  description = "The worker's image; null for the first apply."
  type        = string
  default     = null
}
