package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// HealthCheck is how an image wants containers to be checked: a field that Docker's configs have beside the image
// specification's. Durations are nanoseconds; zero values are left to who runs it.
// https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md
type HealthCheck struct {
	Test          []string      `json:"Test,omitempty"` // NONE, CMD ARG…, or CMD-SHELL LINE
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// ParseHealthCheck reads the health check of a config that ParseConfig has accepted; nil when it has none.
func ParseHealthCheck(config []byte) (*HealthCheck, error) {
	if !bytes.Contains(config, []byte("ealthcheck")) {
		return nil, nil
	}
	var c struct {
		Config struct {
			Healthcheck *HealthCheck
		} `json:"config"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("image config: health check: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	return c.Config.Healthcheck, nil
}
