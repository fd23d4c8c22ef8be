"""Starts llama.cpp's own HTTP server, as the wheel `xllamacpp` carries it, and leaves when standard input closes.

    llama_server.py '{"model": PATH, "parallel": N, "context_tokens": N, "threads": N, "adapters": [PATH, ...]}'

Prints one line of JSON when it answers: its address, the wheel's version, and what the bare interpreter took in
memory before the library was loaded, so that a comparison need not charge llama.cpp for Python.
"""

import json
import sys


def resident_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def main():
    settings = json.loads(sys.argv[1])
    interpreter_bytes = resident_bytes()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_parallel = settings["parallel"]
    # llama.cpp divides the context among the slots.
    params.n_ctx = settings["context_tokens"] * settings["parallel"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.kv_unified = False
    params.fit_params = False
    params.verbosity = 1
    # Loaded, and off until a request or POST /lora-adapters turns one on.
    params.lora_init_without_apply = True
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in settings["adapters"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    ready = {
        "address": server.listening_address.removeprefix("http://"),
        "version": xllamacpp.__version__,
        "interpreter_bytes": interpreter_bytes,
    }
    print(json.dumps(ready), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
