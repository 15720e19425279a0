variable "name" {
  description = "Begins the names of all that is made here."
  type        = string
  default     = "haulyard"

  validation {
    # A load balancer's and a target group's name have 32 characters at most, and ours end with "-notifier".
    condition     = can(regex("^[a-z][a-z0-9-]{0,21}[a-z0-9]$", var.name)) && !startswith(var.name, "internal-")
    error_message = "name must be 2 to 23 lower-case letters, digits and hyphens, and not begin with internal-."
  }
}

variable "vpc_id" {
  description = "The VPC in which services and load balancer are."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the load balancer, in two availability zones at least; public ones unless it is internal."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids must name at least two subnets."
  }
}

variable "certificate_arn" {
  description = "Certificate (ACM) for hostname."
  type        = string
}

variable "hostname" {
  description = "Name under which clients reach Haulyard; other names get 404."
  type        = string
}

variable "service_port" {
  description = "Port on which gateway and notifier listen (HAULYARD_HTTP_PORT)."
  type        = number
  default     = 8080
}

variable "internal" {
  description = "Whether the load balancer is for the VPC only."
  type        = bool
  default     = false
}

variable "client_cidr_blocks" {
  description = "Addresses (IPv4) that may come."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "idle_timeout" {
  description = "Seconds of silence after which a connection is cut."
  type        = number
  default     = 60

  validation {
    # Above: a request may wait for 25 s, WebSockets get a ping every 20 s and event streams a comment every 15 s.
    # Below: the services close an idle connection after 75 s, and whoever closes first must be the load balancer.
    condition     = var.idle_timeout >= 30 && var.idle_timeout <= 70
    error_message = "idle_timeout must be 30 to 70 seconds."
  }
}

variable "deregistration_delay" {
  description = "Seconds that a target which goes may take for what it has begun: HAULYARD_SHUTDOWN_GRACE and HAULYARD_DRAIN."
  type        = number
  default     = 30
}

variable "access_logs_bucket" {
  description = "Bucket for access logs, none if not set. They hold whole URLs, tickets included: keep them as secrets are kept."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether the load balancer is kept from being deleted."
  type        = bool
  default     = true
}
