"""The published notebook's job: `python -m benchmarks.notebook IMAGES OUT WEIGHTS [K]`

As its users run it: binaryFile, repartition(24), an iterator pandas UDF that rebuilds Keras in
every partition, Parquet; read back, a Python UDF from array to vector, MLlib's PCA, Parquet.
RGB pictures only: it dies on others.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

import numpy as np
import pandas as pd
from keras.applications.mobilenet_v2 import MobileNetV2, preprocess_input
from PIL import Image
from pyspark.ml.feature import PCA
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

images_dir, out, weights = sys.argv[1:4]
k = int(sys.argv[4]) if len(sys.argv) > 4 else 50

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.memory", "4g")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.showConsoleProgress", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")


def build_model():
    return MobileNetV2(include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3))


started = time.perf_counter()
source = build_model()
source.load_weights(weights)
shared_weights = spark.sparkContext.broadcast(source.get_weights())


def to_input(content):
    picture = Image.open(io.BytesIO(content)).resize((224, 224))
    return preprocess_input(np.array(picture, dtype="float32"))


@F.pandas_udf("array<float>", F.PandasUDFType.SCALAR_ITER)
def embed(batches):
    model = build_model()
    model.set_weights(shared_weights.value)
    for batch in batches:
        vectors = model.predict(np.stack(batch.map(to_input)), verbose=0)
        yield pd.Series([vector.flatten() for vector in vectors])


files = (
    spark.read.format("binaryFile")
    .option("pathGlobFilter", "*.jpg")
    .option("recursiveFileLookup", "true")
    .load(images_dir)
    .withColumn("label", F.element_at(F.split("path", "/"), -2))
)
rows = files.repartition(24).select("path", "label", embed("content").alias("features"))
rows.write.mode("overwrite").parquet(f"{out}/Results")
features_s = time.perf_counter() - started

started = time.perf_counter()
to_vector = F.udf(lambda values: Vectors.dense(values), VectorUDT())
table = spark.read.parquet(f"{out}/Results").withColumn("vector", to_vector("features"))
model = PCA(k=k, inputCol="vector", outputCol="pca_features").fit(table)
projected = model.transform(table).select("path", "label", "features", "pca_features")
projected.write.mode("overwrite").parquet(f"{out}/Result_PCA")
pca_s = time.perf_counter() - started

print(
    json.dumps(
        {
            "images": table.count(),
            "features_s": round(features_s, 2),
            "pca_s": round(pca_s, 2),
            "explained": round(float(model.explainedVariance.toArray().sum()), 6),
        }
    )
)
