PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: proto
proto: $(STAMP)  ## regenerate src/steno/_proto from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=src/steno/_proto --pyi_out=src/steno/_proto \
	  --grpc_python_out=src/steno/_proto proto/transcript_v1.proto proto/steno_v1.proto
	sed -i -E 's/^import (\w+_pb2) as/from steno._proto import \1 as/' src/steno/_proto/*_pb2_grpc.py
