-- The next item of a list: language models with nn.Recurrent and with nn.LSTM.
require 'rnn'
torch.manualSeed(1)

local ITEMS, SIZE, BATCH, RHO = 50, 20, 10, 5

local function decoder(model, items, size)
   model:add(nn.Sequencer(nn.Linear(size, items)))
   model:add(nn.Sequencer(nn.LogSoftMax()))
   return model
end

local function recurrent(items, size, rho)
   local rnn = nn.Recurrent(size, nn.LookupTable(items, size), nn.Linear(size, size), nn.Sigmoid(), rho)
   return decoder(nn.Sequential():add(nn.Sequencer(rnn)), items, size)
end

local function lstm(items, size, rho)
   local model = nn.Sequential()
   model:add(nn.Sequencer(nn.LookupTable(items, size)))
   model:add(nn.Sequencer(nn.LSTM(size, size, rho)))
   return decoder(model, items, size)
end

-- rho steps from the places in the list, which move on
local function window(order, places, rho)
   local inputs, targets = {}, {}
   for t = 1, rho do
      inputs[t] = order:index(1, places)
      places:add(1)
      places[places:gt(order:size(1))] = 1
      targets[t] = order:index(1, places)
   end
   return inputs, targets
end

local function train(model, order, places, rho, iterations, rate)
   local criterion = nn.SequencerCriterion(nn.ClassNLLCriterion())
   model:zeroGradParameters()
   for i = 1, iterations do
      local inputs, targets = window(order, places, rho)
      local outputs = model:forward(inputs)
      local loss = criterion:forward(outputs, targets)
      model:backward(inputs, criterion:backward(outputs, targets))
      model:updateParameters(rate)
      model:zeroGradParameters()
      if i % 50 == 0 then print(string.format('  iteration %3d   loss per step %.4f', i, loss / rho)) end
   end
end

local function hits(model, order, places, rho)
   local inputs, targets = window(order, places, rho)
   local outputs, count = model:forward(inputs), 0
   for t = 1, rho do
      local _, best = outputs[t]:max(2)
      count = count + best:view(-1):eq(targets[t]:long()):sum()
   end
   return count
end

local order = torch.randperm(ITEMS)
local places = torch.LongTensor(BATCH):random(ITEMS)
for _, make in ipairs{{'nn.Recurrent', recurrent}, {'nn.LSTM', lstm}} do
   local name, model = make[1], make[2](ITEMS, SIZE, RHO)
   print(name)
   train(model, order, places:clone(), RHO, 150, 1)
   print(string.format('  %d of %d next items are right', hits(model, order, places:clone(), RHO), BATCH * RHO))
end
