//! HTTP for the operator, probes and people: /healthz, /readyz, /metrics, /configz.
