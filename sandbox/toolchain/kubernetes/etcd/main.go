// Command etcd is the store of the API server, in the version that Kubernetes asks for:
// with an older one, as distributions have it, the API server cannot tell whether its
// caches are current, and every consistent list and watch of them waits for nothing.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
