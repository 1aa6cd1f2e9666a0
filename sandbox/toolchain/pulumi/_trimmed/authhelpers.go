// Package authhelpers takes the place of the engine's sign-in to Google Cloud.
package authhelpers

import (
	"context"
	"errors"

	"gocloud.dev/blob"
)

// GoogleCredentialsMux refuses.
func GoogleCredentialsMux(context.Context) (*blob.URLMux, error) {
	return nil, errors.New("this engine was built without Google Cloud; use file:// or s3://, or an official engine on PATH")
}
