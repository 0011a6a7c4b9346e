# The CUDA back end: SNUG_CUDA_SOURCES are its sources that need nvcc or the run time's headers.
# Libraries beside the run time are opened when the program runs, so none is linked.

set(SNUG_CUDA_ARCHITECTURES "80;86;89;90a;120" CACHE STRING
  "Compute capabilities to make code for: 80, 86, 89, 90a, 120; the last also as PTX")

# nvcc knows C++20, CMake learned that in 3.25.2.
set(CMAKE_CUDA_STANDARD 17)
set(snug_real_architectures)
foreach(architecture ${SNUG_CUDA_ARCHITECTURES})
  list(APPEND snug_real_architectures ${architecture}-real)
endforeach()
list(GET SNUG_CUDA_ARCHITECTURES -1 snug_last_architecture)
if(NOT snug_last_architecture MATCHES "a$" AND snug_last_architecture GREATER 89)
  list(APPEND snug_real_architectures ${snug_last_architecture}-virtual)
endif()
set(CMAKE_CUDA_ARCHITECTURES ${snug_real_architectures})
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
  message(FATAL_ERROR "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is too old: CUDA 12.4 or later is needed.")
endif()
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
find_package(CUDAToolkit REQUIRED)

# Beside the system's libraries: the bundle's, and those of Python packages in build/cuda-wheels.
set(CMAKE_BUILD_RPATH "$ORIGIN/lib" "$ORIGIN/../lib")
foreach(package cu13 cublas)
  list(APPEND CMAKE_BUILD_RPATH "$ORIGIN/../cuda-wheels/nvidia/${package}/lib"
    "$ORIGIN/../../cuda-wheels/nvidia/${package}/lib")
endforeach()

file(GLOB SNUG_CUDA_SOURCES CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/src/backend/cuda/present/*.cpp
  ${PROJECT_SOURCE_DIR}/src/backend/cuda/present/*.cu)
# What ptxas says of each kernel lies beside the object, for tests/cuda/usage_test.cpp.
set(CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/keep_usage.sh ${CMAKE_CUDA_COMPILER_LAUNCHER})
set(SNUG_NVCC_OPTIONS -Xptxas=-v --expt-relaxed-constexpr -Werror=all-warnings -Xcompiler=-Wall,-Wextra)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  list(APPEND SNUG_NVCC_OPTIONS --compress-mode=size)  # a fifth; every driver for CUDA 13 reads it
endif()
# The plain kernels' bodies are shared with the host and round each operation, as all back ends do.
file(GLOB snug_plain_sources ${PROJECT_SOURCE_DIR}/src/backend/cuda/present/plain_*.cu)
set_source_files_properties(${snug_plain_sources} PROPERTIES COMPILE_OPTIONS --fmad=false)
# Of these files only: the others' objects are those of a build without CUDA.
file(GLOB snug_run_time_sources ${PROJECT_SOURCE_DIR}/src/backend/cuda/present/*.cpp)
set(snug_run_time_includes)
foreach(folder ${CUDAToolkit_INCLUDE_DIRS})
  list(APPEND snug_run_time_includes -isystem${folder})
endforeach()
set_source_files_properties(${snug_run_time_sources} PROPERTIES
  COMPILE_OPTIONS "${snug_run_time_includes}")
string(REPLACE ";" " " snug_architectures "${SNUG_CUDA_ARCHITECTURES}")
set_source_files_properties(${PROJECT_SOURCE_DIR}/src/backend/cuda/present/card_device.cpp
  PROPERTIES COMPILE_DEFINITIONS "SNUG_CUDA_ARCHITECTURES=\"${snug_architectures}\"")
