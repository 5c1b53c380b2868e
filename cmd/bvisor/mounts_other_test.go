//go:build !linux

package main

import "errors"

func onFS() {}

func noUserNamespaces() {}

func canMount() error { return errors.New("there are no mount namespaces here") }

func dies() {}
