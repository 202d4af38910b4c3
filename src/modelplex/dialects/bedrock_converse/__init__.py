"""Amazon Bedrock's Converse and ConverseStream, towards providers."""
