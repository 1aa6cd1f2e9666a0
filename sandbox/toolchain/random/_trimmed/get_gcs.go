package getter

import (
	"errors"
	"net/url"
)

// GCSGetter refuses: the bridge only fetches Terraform modules, and none of Google Cloud's are converted here.
type GCSGetter struct{ getter }

var errNoGCS = errors.New("this provider was built without Google Cloud's storage")

// ClientMode refuses.
func (g *GCSGetter) ClientMode(*url.URL) (ClientMode, error) { return ClientModeInvalid, errNoGCS }

// Get refuses.
func (g *GCSGetter) Get(string, *url.URL) error { return errNoGCS }

// GetFile refuses.
func (g *GCSGetter) GetFile(string, *url.URL) error { return errNoGCS }
