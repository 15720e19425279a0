# `terraform init && terraform test`: what would be made, without AWS.

mock_provider "aws" {
  mock_resource "aws_lb" {
    defaults = {
      arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/haulyard/50dc6c495c0c9188"
    }
  }
  mock_resource "aws_lb_target_group" {
    defaults = {
      arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/haulyard/50dc6c495c0c9188"
    }
  }
  mock_resource "aws_lb_listener" {
    defaults = {
      arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/haulyard/50dc6c495c0c9188/0467ef3c8400ae65"
    }
  }
}

variables {
  vpc_id          = "vpc-0a1b2c3d4e5f60718"
  subnet_ids      = ["subnet-0a1b2c3d4e5f60718", "subnet-0a1b2c3d4e5f60719"]
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
  hostname        = "downloads.example.com"
}

run "it_is_made_as_the_services_need_it" {
  command = apply

  assert {
    condition     = aws_lb.main.idle_timeout == 60
    error_message = "a request may wait for 25 s; the services close idle connections after 75 s"
  }
  assert {
    condition     = aws_lb.main.drop_invalid_header_fields && aws_lb.main.load_balancer_type == "application"
    error_message = "an application load balancer that drops malformed headers"
  }
  assert {
    condition     = aws_lb_listener_rule.notifier.priority < aws_lb_listener_rule.gateway.priority
    error_message = "the gateway's rule has the notifier's paths, too"
  }
  assert {
    condition = alltrue([
      for group in aws_lb_target_group.service :
      one(group.health_check).path == "/health/ready" && group.port == 8080 && group.target_type == "ip"
    ])
    error_message = "a target is healthy when it is ready"
  }
  assert {
    condition     = keys(aws_lb_target_group.service) == ["gateway", "notifier"]
    error_message = "one target group for each service that clients talk to"
  }
  assert {
    condition = alltrue([
      for rule in [aws_lb_listener_rule.notifier, aws_lb_listener_rule.gateway] : alltrue([
        for path in flatten([for condition in rule.condition : [for pattern in condition.path_pattern : pattern.values]]) :
        !strcontains(path, "health") && !strcontains(path, "metrics")
      ])
    ])
    error_message = "health and metrics are not for clients"
  }
  assert {
    condition     = one(one(aws_lb_listener.https.default_action).fixed_response).status_code == "404"
    error_message = "what is in no rule is not there"
  }
  assert {
    condition     = one(one(aws_lb_listener.http.default_action).redirect).protocol == "HTTPS"
    error_message = "without TLS there is nothing but the way to it"
  }
  assert {
    condition     = output.settings.HAULYARD_PUBLIC_NOTIFIER_URL == "https://downloads.example.com"
    error_message = "the services are told how clients reach them"
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.balancer.referenced_security_group_id == aws_security_group.balancer.id
    error_message = "services take connections of the load balancer"
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.balancer.cidr_ipv4 == null
    error_message = "and of nobody else"
  }
}

run "what_aws_or_the_services_would_not_stand_is_refused" {
  command = plan

  variables {
    name         = "a-name-that-is-too-long-for-a-load-balancer"
    subnet_ids   = ["subnet-0a1b2c3d4e5f60718", "subnet-0a1b2c3d4e5f60718"]
    idle_timeout = 3600
  }
  expect_failures = [var.name, var.subnet_ids, var.idle_timeout]
}
