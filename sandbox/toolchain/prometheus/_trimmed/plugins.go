// Package plugins registers the service discoveries that the operator's configurations use: those of two dozen clouds
// would double the time to compile.
package plugins

import (
	_ "github.com/prometheus/prometheus/discovery/dns"
	_ "github.com/prometheus/prometheus/discovery/kubernetes"
)
