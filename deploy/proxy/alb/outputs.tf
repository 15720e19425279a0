output "dns_name" {
  description = "Where hostname is to point (an alias record, or a CNAME)."
  value       = aws_lb.main.dns_name
}

output "zone_id" {
  description = "Hosted zone of dns_name, for an alias record."
  value       = aws_lb.main.zone_id
}

output "target_group_arns" {
  description = "Where gateway and notifier are to be registered."
  value       = { for name, group in aws_lb_target_group.service : name => group.arn }
}

output "services_security_group_id" {
  description = "A security group for gateway and notifier that lets the load balancer in."
  value       = aws_security_group.services.id
}

output "settings" {
  description = "What gateway and notifier have to be told."
  value = {
    HAULYARD_PUBLIC_API_URL      = "https://${var.hostname}"
    HAULYARD_PUBLIC_NOTIFIER_URL = "https://${var.hostname}"
    HAULYARD_BEHIND_TLS          = "true"
    HAULYARD_HTTP_HOST           = "0.0.0.0"
    HAULYARD_HTTP_PORT           = tostring(var.service_port)
  }
}
