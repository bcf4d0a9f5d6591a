// Command pause is the process of a pod's sandbox: it only has to be there, for
// the pod's namespaces are its own.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
