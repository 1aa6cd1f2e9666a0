package operations

import (
	"context"
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
)

// GCPOperationsProvider refuses: this engine was built without the reader of Google Cloud's logs.
func GCPOperationsProvider(context.Context, map[config.Key]string, *Resource) (Provider, error) {
	return nil, errors.New("this engine was built without `pulumi logs` for Google Cloud; put an official engine on PATH")
}
