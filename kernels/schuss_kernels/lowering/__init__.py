"""From a rule and its storages to LLVM: what the CPU and the CUDA kernels share."""
