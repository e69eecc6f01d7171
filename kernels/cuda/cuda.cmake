# kernels_cuda by nvcc: sm_80, sm_89 and sm_90a, and PTX for what comes after. CRIA_GPU names what a
# program links to have the device "cuda"; it is empty where there is no nvcc.
set(CRIA_GPU "")
if(NOT CRIA_CUDA OR CRIA_SANITIZE)
  return()
endif()
find_program(CRIA_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
mark_as_advanced(CRIA_NVCC)
if(NOT CRIA_NVCC)
  return()
endif()
set(CMAKE_CUDA_COMPILER ${CRIA_NVCC})
set(CRIA_CUDA_ARCHITECTURES 80-real 89-real 90a-real 90-virtual CACHE STRING "GPUs to compile for")
mark_as_advanced(CRIA_CUDA_ARCHITECTURES)
set(CMAKE_CUDA_ARCHITECTURES ${CRIA_CUDA_ARCHITECTURES})
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

file(GLOB sources CONFIGURE_DEPENDS kernels/cuda/*.cu kernels/cuda/*.c)
add_library(kernels_cuda OBJECT ${sources})
target_link_libraries(kernels_cuda PUBLIC kernels CUDA::cudart_static ${CMAKE_DL_LIBS})
# cuBLASLt is loaded when a GPU is opened: from here, unless the loader knows a better place
target_link_options(kernels_cuda INTERFACE -Wl,-rpath,${CUDAToolkit_LIBRARY_DIR})
set_target_properties(kernels_cuda PROPERTIES CUDA_STANDARD 17 CUDA_SEPARABLE_COMPILATION OFF)
# a spilled register is a broken promise of speed: it fails the build
target_compile_options(kernels_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=--warn-on-spills;-Xptxas=--warning-as-error;-Xcompiler=-Wall>")
set(CRIA_GPU kernels_cuda)
