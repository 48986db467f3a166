# registry-transport for CMake:
#
#   find_package(registry_transport 0.1 REQUIRED)
#   target_link_libraries(program PRIVATE registry_transport::registry_transport)
#
# gives the shared library, or the static one where only that is installed or registry_transport_USE_STATIC_LIBS was
# set before. registry_transport::shared and registry_transport::static name one of them, if it is there; so do the
# components "shared" and "static".
#
# The file belongs in PREFIX/share/cmake/registry_transport and looks for everything else below PREFIX, wherever that
# was moved to.

cmake_policy(PUSH)
cmake_policy(VERSION 3.13...3.25)

get_filename_component(_rt_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_rt_problem "")

# Not in the cache: it must follow the prefix.
foreach(_rt_name IN ITEMS include shared static pc)
    unset(_rt_${_rt_name})
    unset(_rt_${_rt_name} CACHE)
endforeach()
set(_rt_beside
    PATHS "${_rt_prefix}"
    NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
set(_rt_folders "lib/${CMAKE_LIBRARY_ARCHITECTURE}" lib lib64 lib32)
find_path(_rt_include registry_transport.h ${_rt_beside} PATH_SUFFIXES include)
if(APPLE)
    find_library(_rt_shared NAMES libregistry_transport.dylib ${_rt_beside} PATH_SUFFIXES ${_rt_folders})
else()
    find_library(_rt_shared NAMES libregistry_transport.so ${_rt_beside} PATH_SUFFIXES ${_rt_folders})
endif()
find_library(_rt_static NAMES libregistry_transport.a ${_rt_beside} PATH_SUFFIXES ${_rt_folders})
foreach(_rt_folder IN LISTS _rt_folders)
    list(APPEND _rt_pc_folders "${_rt_folder}/pkgconfig")
endforeach()
find_file(_rt_pc registry_transport.pc ${_rt_beside} PATH_SUFFIXES ${_rt_pc_folders})

if(NOT _rt_include)
    set(_rt_problem "registry_transport.h is not in ${_rt_prefix}/include")
elseif(NOT _rt_shared AND NOT _rt_static)
    set(_rt_problem "libregistry_transport is not in the lib folders of ${_rt_prefix}")
elseif(registry_transport_USE_STATIC_LIBS AND NOT _rt_static)
    set(_rt_problem "libregistry_transport.a is not in the lib folders of ${_rt_prefix}")
endif()

if(_rt_shared AND NOT TARGET registry_transport::shared)
    add_library(registry_transport::shared SHARED IMPORTED)
    set_target_properties(registry_transport::shared PROPERTIES
        IMPORTED_LOCATION "${_rt_shared}"
        INTERFACE_INCLUDE_DIRECTORIES "${_rt_include}")
endif()

# What a static library needs besides is known to the build that made it, and written in its .pc file.
if(_rt_static AND _rt_pc AND NOT TARGET registry_transport::static)
    file(STRINGS "${_rt_pc}" _rt_needs REGEX "^Libs.private:")
    string(REGEX REPLACE "^Libs.private: *" "" _rt_needs "${_rt_needs}")
    # "-framework X" is one argument to CMake.
    string(REGEX REPLACE "-framework +" "-framework@" _rt_needs "${_rt_needs}")
    string(REGEX REPLACE " +" ";" _rt_needs "${_rt_needs}")
    string(REPLACE "-framework@" "-framework " _rt_needs "${_rt_needs}")
    add_library(registry_transport::static STATIC IMPORTED)
    set_target_properties(registry_transport::static PROPERTIES
        IMPORTED_LOCATION "${_rt_static}"
        IMPORTED_LINK_INTERFACE_LANGUAGES C
        INTERFACE_COMPILE_DEFINITIONS RT_STATIC
        INTERFACE_INCLUDE_DIRECTORIES "${_rt_include}"
        INTERFACE_LINK_LIBRARIES "${_rt_needs}")
endif()

foreach(_rt_name IN ITEMS shared static)
    if(TARGET registry_transport::${_rt_name})
        set(registry_transport_${_rt_name}_FOUND TRUE)
    else()
        set(registry_transport_${_rt_name}_FOUND FALSE)
    endif()
endforeach()
foreach(_rt_name IN LISTS registry_transport_FIND_COMPONENTS)
    if(registry_transport_FIND_REQUIRED_${_rt_name} AND NOT registry_transport_${_rt_name}_FOUND)
        set(_rt_problem "there is no ${_rt_name} library in ${_rt_prefix}")
    endif()
endforeach()

# An alias of an imported target has to be one itself in CMake before 3.18.
if(NOT _rt_problem AND NOT TARGET registry_transport::registry_transport)
    add_library(registry_transport::registry_transport INTERFACE IMPORTED)
    if(TARGET registry_transport::shared AND NOT registry_transport_USE_STATIC_LIBS)
        set_target_properties(registry_transport::registry_transport PROPERTIES
            INTERFACE_LINK_LIBRARIES registry_transport::shared)
    else()
        set_target_properties(registry_transport::registry_transport PROPERTIES
            INTERFACE_LINK_LIBRARIES registry_transport::static)
    endif()
endif()

if(_rt_problem)
    set(registry_transport_FOUND FALSE)
    set(registry_transport_NOT_FOUND_MESSAGE "${_rt_problem}")
endif()

foreach(_rt_name IN ITEMS include shared static pc)
    unset(_rt_${_rt_name} CACHE)
    unset(_rt_${_rt_name})
endforeach()
foreach(_rt_name IN ITEMS prefix problem beside folders folder pc_folders needs name)
    unset(_rt_${_rt_name})
endforeach()
cmake_policy(POP)
