"""The CuPy backend; its kernels are CUDA C++ in `kernels/`."""
