package config_test

import (
	"testing"

	"postern.dev/postern/internal/config"
)

func TestX(t *testing.T) {
	cfg, ds := config.Load("../../examples/small/postern.hcl", config.Options{})
	for i := range ds {
		t.Error(ds[i].Error(), ds[i].Hint)
	}
	if cfg != nil {
		t.Log(len(cfg.Shaping.Rules), len(cfg.Shaping.Destinations))
	}
}
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		config.Load("../../examples/small/postern.hcl", config.Options{})
	}
}
