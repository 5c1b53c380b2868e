# Go 1.26 is all that build and test need. "go test ./..." is the test command; the targets here are for work on bvisor.

FUZZTIME ?= 10s
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
SYSTEMS = linux/amd64 linux/arm64 darwin/arm64 windows/amd64
GO = CGO_ENABLED=0 go

.PHONY: help build check test test-kernels race fuzz golden bench demo

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## build bin/bvisor, static and without paths of this machine
	$(GO) build -trimpath -o bin/bvisor ./cmd/bvisor

# The launcher's machine is assembly that is read and never called, which looks
# unused (U1000).
check: ## gofmt, vet and build for every system, staticcheck if it is installed
	@test -z "$$(gofmt -l .)" || { echo "not formatted; run gofmt -w on:"; gofmt -l .; exit 1; }
	@for system in $(SYSTEMS); do \
		echo "go vet ./... on $$system"; \
		GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) vet ./... || exit 1; \
	done
	@if command -v staticcheck >/dev/null; then echo "staticcheck"; \
		staticcheck $$(go list ./... | grep -v /internal/launcher) && staticcheck -checks inherit,-U1000 ./internal/launcher; \
	else echo "staticcheck is not installed: go install $(STATICCHECK)"; fi

test: ## run every test
	$(GO) test ./...

test-kernels: ## run every kernel suite under Debian's 6.1 and 6.12, in virtual machines (docs/kernels.md)
	BVISOR_LONG=1 $(GO) test -count=1 -v -timeout 60m -run 'TestKernels' ./internal/vm

race: ## run every test under the race detector (needs gcc and the C library's headers)
	CGO_ENABLED=1 go test -race ./...

# Go 1.26 may report its own deadline as a failure (golang/go#75804): only a
# failure with another reason counts.
fuzz: ## fuzz every target for FUZZTIME (10s)
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file func; do \
		name=$${func#func }; \
		echo "go test -fuzz $$name $$(dirname $$file)"; \
		if ! out=$$($(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$(dirname $$file) </dev/null 2>&1); then \
			case $$out in *"Failing input"*|*panic*) ;; *"    context deadline exceeded"*) continue ;; esac; \
			echo "$$out"; exit 1; \
		fi; \
		echo "$$out" | tail -n 3; \
	done

golden: ## rewrite every expectation that tests compare with; look at the difference before you commit it
	@for dir in $$(grep -rl --include='*_test.go' 'flag.Bool("golden"' . | xargs -n 1 dirname | sort -u); do \
		$(GO) test -count=1 $$dir -golden || exit 1; \
	done

bench: ## measure launches against bubblewrap and a floor in C (docs/performance.md)
	$(GO) run ./bench

demo: ## a program that looks around, inside a boundary
	$(GO) run ./cmd/bvisor run -- sh examples/curious.sh
