package app

import "github.com/prometheus/client_golang/prometheus"

// Registry gives a test what /metrics is made of.
func (a *App) Registry() *prometheus.Registry { return a.metrics.registry }
