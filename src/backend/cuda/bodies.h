#pragma once
// Every body, for whoever instantiates each() and teams().

#include "backend/cuda/bodies_adafactor.h"
#include "backend/cuda/bodies_attention.h"
#include "backend/cuda/bodies_eights.h"
#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/bodies_loss.h"
#include "backend/cuda/bodies_products.h"
#include "backend/cuda/bodies_rows.h"
