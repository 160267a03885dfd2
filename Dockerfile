# The README's installation and its test command, on a bare system:
#   docker build -t densevision . && docker run --rm densevision
# For predictions, with the current folder as /data:
#   docker run --rm -v "$PWD:/data" -w /data densevision densevision predict depth photo.jpg
FROM python:3.11-slim
COPY . /densevision
WORKDIR /densevision
RUN pip install --no-cache-dir -e ".[test]"
CMD ["pytest"]
